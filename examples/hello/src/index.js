// The application's one function: it greets.
exports.handler = async () => ({
  statusCode: 200,
  body: 'Hello!\n',
});
