'use strict';

const path = require('path');
const { CfnOutput, Duration, Stack } = require('aws-cdk-lib');
const apigateway = require('aws-cdk-lib/aws-apigateway');
const iam = require('aws-cdk-lib/aws-iam');
const lambda = require('aws-cdk-lib/aws-lambda');
const { SqsEventSource } = require('aws-cdk-lib/aws-lambda-event-sources');

/** The REST API and the functions that do the work. */
class ServiceStack extends Stack {
  constructor(scope, id, props) {
    super(scope, id, props);
    const { images, labels, work } = props;

    // POST /images hands out a place to upload to; GET /images/{id} reads labels.
    const imagesApi = this.pythonFunction('ImagesApi', 'images_api', {
      description: 'Hands out upload addresses and reads labels',
      timeout: Duration.seconds(10),
      memorySize: 256,
      environment: { IMAGES_BUCKET: images.bucketName, LABELS_TABLE: labels.tableName },
    });
    images.grantPut(imagesApi, 'images/*');
    labels.grantReadData(imagesApi);

    // Takes messages off the queue and writes what Rekognition sees.
    const recognise = this.pythonFunction('Recognise', 'recognise', {
      description: 'Finds the labels of new images',
      timeout: Duration.minutes(1),
      memorySize: 512,
      environment: { LABELS_TABLE: labels.tableName, MIN_CONFIDENCE: '80' },
    });
    images.grantRead(recognise, 'images/*');
    labels.grantWriteData(recognise);
    recognise.addToRolePolicy(
      new iam.PolicyStatement({ actions: ['rekognition:DetectLabels'], resources: ['*'] }),
    );
    recognise.addEventSource(
      new SqsEventSource(work, { batchSize: 10, reportBatchItemFailures: true }),
    );

    const api = new apigateway.RestApi(this, 'Api', {
      restApiName: 'image-recognition',
      description: 'Upload images and read what is in them',
      cloudWatchRole: false,
      deployOptions: { stageName: 'v1', throttlingRateLimit: 50, throttlingBurstLimit: 100 },
    });
    const integration = new apigateway.LambdaIntegration(imagesApi);
    const collection = api.root.addResource('images');
    collection.addMethod('POST', integration, {
      authorizationType: apigateway.AuthorizationType.IAM,
    });
    collection.addResource('{id}').addMethod('GET', integration, {
      authorizationType: apigateway.AuthorizationType.IAM,
    });

    new CfnOutput(this, 'ImagesUrl', { value: api.urlForPath('/images') });
  }

  /** A Python function whose code is the folder `lambda/<folder>`, as it is. */
  pythonFunction(id, folder, props) {
    return new lambda.Function(this, id, {
      runtime: lambda.Runtime.PYTHON_3_13,
      architecture: lambda.Architecture.ARM_64,
      handler: 'handler.handle',
      code: lambda.Code.fromAsset(path.join(__dirname, '..', 'lambda', folder)),
      tracing: lambda.Tracing.ACTIVE,
      ...props,
    });
  }
}

module.exports = { ServiceStack };
