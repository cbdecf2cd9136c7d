//! Resources that hold what their owner would miss.

use std::fmt;

/// A resource that holds data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataResource {
    /// Its name in the template; of a nested stack's as `Stack/Resource`.
    pub logical_id: String,
    /// Its type.
    pub resource_type: String,
}

impl fmt::Display for DataResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.logical_id, self.resource_type)
    }
}

/// Types whose resources hold data, or what other data cannot be read without.
const STATEFUL: &[&str] = &[
    // Tables and databases.
    "AWS::Cassandra::Keyspace",
    "AWS::Cassandra::Table",
    "AWS::DAX::Cluster",
    "AWS::DSQL::Cluster",
    "AWS::DocDB::DBCluster",
    "AWS::DocDB::DBInstance",
    "AWS::DocDBElastic::Cluster",
    "AWS::DynamoDB::GlobalTable",
    "AWS::DynamoDB::Table",
    "AWS::ElastiCache::CacheCluster",
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::ElastiCache::ServerlessCache",
    "AWS::Elasticsearch::Domain",
    "AWS::Lightsail::Database",
    "AWS::MemoryDB::Cluster",
    "AWS::Neptune::DBCluster",
    "AWS::Neptune::DBInstance",
    "AWS::NeptuneGraph::Graph",
    "AWS::OpenSearchServerless::Collection",
    "AWS::OpenSearchService::Domain",
    "AWS::QLDB::Ledger",
    "AWS::RDS::DBCluster",
    "AWS::RDS::DBInstance",
    "AWS::RDS::GlobalCluster",
    "AWS::Redshift::Cluster",
    "AWS::RedshiftServerless::Namespace",
    "AWS::SDB::Domain",
    "AWS::Serverless::SimpleTable",
    "AWS::Timestream::Database",
    "AWS::Timestream::InfluxDBInstance",
    "AWS::Timestream::Table",
    // Buckets, file systems, disks and backups.
    "AWS::Backup::BackupVault",
    "AWS::EC2::Volume",
    "AWS::ECR::Repository",
    "AWS::EFS::FileSystem",
    "AWS::FSx::FileSystem",
    "AWS::FSx::Volume",
    "AWS::Lightsail::Bucket",
    "AWS::Lightsail::Disk",
    "AWS::S3::Bucket",
    "AWS::S3Express::DirectoryBucket",
    "AWS::S3Tables::Table",
    "AWS::S3Tables::TableBucket",
    "AWS::S3Vectors::VectorBucket",
    // Queues, streams and logs.
    "AWS::AmazonMQ::Broker",
    "AWS::CloudTrail::EventDataStore",
    "AWS::Events::Archive",
    "AWS::Kinesis::Stream",
    "AWS::KinesisVideo::Stream",
    "AWS::Logs::LogGroup",
    "AWS::MSK::Cluster",
    "AWS::MSK::ServerlessCluster",
    "AWS::SQS::Queue",
    // Keys, secrets, users and rights.
    "AWS::Cognito::IdentityPool",
    "AWS::Cognito::UserPool",
    "AWS::KMS::Key",
    "AWS::KMS::ReplicaKey",
    "AWS::SSM::Parameter",
    "AWS::SecretsManager::Secret",
    "AWS::VerifiedPermissions::PolicyStore",
];

/// Tells whether resources of a type hold data. A nested stack may hold anything.
pub fn is_stateful(resource_type: &str) -> bool {
    STATEFUL.contains(&resource_type) || resource_type == "AWS::CloudFormation::Stack"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_store_is_known() {
        for kind in ["DynamoDB::Table", "RDS::DBInstance", "S3::Bucket", "SQS::Queue", "KMS::Key", "Logs::LogGroup"] {
            assert!(is_stateful(&format!("AWS::{kind}")), "{kind}");
        }
        assert!(is_stateful("AWS::EFS::FileSystem") && is_stateful("AWS::Cognito::UserPool"));
        assert!(!is_stateful("AWS::Lambda::Function") && !is_stateful("AWS::S3::BucketPolicy"));
    }
}
