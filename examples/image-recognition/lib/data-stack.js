'use strict';

const { Duration, RemovalPolicy, Stack } = require('aws-cdk-lib');
const dynamodb = require('aws-cdk-lib/aws-dynamodb');
const iam = require('aws-cdk-lib/aws-iam');
const s3 = require('aws-cdk-lib/aws-s3');
const sns = require('aws-cdk-lib/aws-sns');
const subscriptions = require('aws-cdk-lib/aws-sns-subscriptions');
const sqs = require('aws-cdk-lib/aws-sqs');

/** Where images are kept, what was seen in them, and the work still to do. */
class DataStack extends Stack {
  constructor(scope, id, props) {
    super(scope, id, props);

    // Work that failed five times waits here for two weeks.
    const failed = new sqs.Queue(this, 'FailedWork', {
      retentionPeriod: Duration.days(14),
      enforceSSL: true,
    });

    // One message for each new image. A message stays hidden for six times the
    // function's timeout while it is worked on, as Lambda advises.
    this.work = new sqs.Queue(this, 'Work', {
      visibilityTimeout: Duration.minutes(6),
      deadLetterQueue: { queue: failed, maxReceiveCount: 5 },
      enforceSSL: true,
    });

    // The bucket tells a topic, and the topic tells the queue: another reader
    // of new images needs only a subscription of its own.
    const newImages = new sns.Topic(this, 'NewImages', {
      displayName: 'Images that were put into the images bucket',
    });
    newImages.addSubscription(
      new subscriptions.SqsSubscription(this.work, { rawMessageDelivery: true }),
    );

    this.images = new s3.Bucket(this, 'Images', {
      encryption: s3.BucketEncryption.S3_MANAGED,
      blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
      enforceSSL: true,
      versioned: true,
      lifecycleRules: [{ noncurrentVersionExpiration: Duration.days(30) }],
      removalPolicy: RemovalPolicy.RETAIN,
    });
    this.notify(this.images, newImages);

    // One item for each image, found by the key of its object.
    this.labels = new dynamodb.Table(this, 'Labels', {
      partitionKey: { name: 'image', type: dynamodb.AttributeType.STRING },
      billingMode: dynamodb.BillingMode.PAY_PER_REQUEST,
      pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
      removalPolicy: RemovalPolicy.RETAIN,
    });
  }

  /**
   * Has the bucket tell the topic of each new image.
   *
   * This sets CloudFormation's own property. `bucket.addEventNotification`
   * would add a custom resource with a Lambda function of the CDK's instead.
   */
  notify(bucket, topic) {
    // The bucket can be made only once it may publish, so the policy cannot
    // name the bucket, which would be a circle; it names this account.
    const policy = new sns.TopicPolicy(this, 'NewImagesPolicy', { topics: [topic] });
    policy.document.addStatements(
      new iam.PolicyStatement({
        sid: 'BucketPublishes',
        principals: [new iam.ServicePrincipal('s3.amazonaws.com')],
        actions: ['sns:Publish'],
        resources: [topic.topicArn],
        conditions: { StringEquals: { 'aws:SourceAccount': this.account } },
      }),
    );

    const resource = bucket.node.defaultChild;
    resource.notificationConfiguration = {
      topicConfigurations: [
        {
          event: 's3:ObjectCreated:*',
          topic: topic.topicArn,
          filter: { s3Key: { rules: [{ name: 'prefix', value: 'images/' }] } },
        },
      ],
    };
    resource.node.addDependency(policy);
  }
}

module.exports = { DataStack };
