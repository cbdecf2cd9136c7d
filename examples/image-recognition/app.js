#!/usr/bin/env node
/*
 * Image recognition, as a CDK application of two stacks:
 *
 *   ImageRecognitionData     what must outlive a release: the images bucket, the
 *                            table of labels and the queue of work to do.
 *   ImageRecognitionService  what every release replaces: the two Lambda
 *                            functions and the REST API in front of them.
 *
 * The service stack uses resources of the data stack, so the CDK makes exports
 * and imports between the two and deploys the data stack first. Neither stack
 * names an account or a region: the templates suit any environment.
 *
 * `node app.js` writes the cloud assembly to ./cdk.out; the CDK's command line,
 * the network and Docker are not needed.
 */
'use strict';

const path = require('path');
const { App, Tags } = require('aws-cdk-lib');
const { DataStack } = require('./lib/data-stack');
const { ServiceStack } = require('./lib/service-stack');

const app = new App({
  // The CDK's command line says where to write by CDK_OUTDIR.
  outdir: process.env.CDK_OUTDIR || path.join(__dirname, 'cdk.out'),
  // No AWS::CDK::Metadata resource: it would name the libraries' versions.
  analyticsReporting: false,
  // No stack traces in the metadata: they would name this machine's paths.
  stackTraces: false,
  postCliContext: {
    'aws:cdk:disable-creation-stack-traces': true,
    // The service stack reads the data stack's exports by Fn::ImportValue, which
    // keeps the data stack from being deleted while the service stack is there.
    '@aws-cdk/core:defaultCrossStackReferences': 'strong',
  },
});

const data = new DataStack(app, 'ImageRecognitionData', {
  description: 'Image recognition: images, labels and the queue of work',
});

new ServiceStack(app, 'ImageRecognitionService', {
  description: 'Image recognition: the REST API and its functions',
  images: data.images,
  labels: data.labels,
  work: data.work,
});

Tags.of(app).add('application', 'image-recognition');

app.synth();
