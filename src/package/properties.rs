//! Which properties name files on this machine: the list of `aws cloudformation package` and `sam package`.
//!
//! Sources: the AWS CLI's `awscli/customizations/cloudformation/artifact_exporter.py` (1.46.3) and the SAM CLI's
//! `samcli/lib/package/packageable_resources.py` (1.170.0), whose classes stand beside each row.

/// A property that names a file or a folder.
#[derive(Debug, PartialEq, Eq)]
pub struct Property {
    /// The resource's type.
    pub resource: &'static str,
    /// The keys below `Properties`.
    pub path: &'static [&'static str],
    /// What it becomes.
    pub form: Form,
    /// What is uploaded.
    pub content: Content,
    /// Whether the template's own folder is meant where the property is absent.
    pub defaults_to_folder: bool,
}

/// What a property becomes.
#[derive(Debug, PartialEq, Eq)]
pub enum Form {
    /// `s3://bucket/key`.
    Uri,
    /// An object with bucket, key and, where one is given, version under these names.
    Object(&'static str, &'static str, Option<&'static str>),
    /// The https URL of a template.
    Url,
}

/// What is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// A zip of code that Lambda runs: also of a single file.
    Code,
    /// A zip, also of a single file.
    Zip,
    /// A file as it is; of a folder, a zip.
    File,
    /// A template with everything local that it names itself.
    Template,
    /// A template as it is.
    RawTemplate,
}

const S3: Form = Form::Object("Bucket", "Key", Some("Version"));
const LAMBDA: Form = Form::Object("S3Bucket", "S3Key", Some("S3ObjectVersion"));

const fn row(resource: &'static str, path: &'static [&'static str], form: Form, content: Content) -> Property {
    Property { resource, path, form, content, defaults_to_folder: false }
}

const fn or_folder(property: Property) -> Property {
    Property { defaults_to_folder: true, ..property }
}

use Content::{Code, File, RawTemplate, Template, Zip};
use Form::{Uri, Url};

/// All of them.
#[rustfmt::skip]
pub const PROPERTIES: &[Property] = &[
    or_folder(row("AWS::Serverless::Function", &["CodeUri"], Uri, Code)),                  // ServerlessFunctionResource
    or_folder(row("AWS::Serverless::WebFunction", &["CodeUri"], Uri, Code)),               // ServerlessWebFunctionResource (SAM)
    or_folder(row("AWS::Serverless::LayerVersion", &["ContentUri"], Uri, Code)),           // ServerlessLayerVersionResource
    or_folder(row("AWS::Lambda::Function", &["Code"], LAMBDA, Code)),                      // LambdaFunctionResource
    or_folder(row("AWS::Lambda::LayerVersion", &["Content"], LAMBDA, Code)),               // LambdaLayerVersionResource
    row("AWS::Serverless::Api", &["DefinitionUri"], Uri, File),                            // ServerlessApiResource
    row("AWS::Serverless::HttpApi", &["DefinitionUri"], Uri, File),                        // ServerlessHttpApiResource (SAM)
    row("AWS::Serverless::StateMachine", &["DefinitionUri"], S3, File),                    // ServerlessStateMachineDefinitionResource
    row("AWS::Serverless::GraphQLApi", &["SchemaUri"], Uri, File),                         // GraphQLApiSchemaResource (SAM)
    row("AWS::Serverless::Application", &["Location"], Url, Template),                     // ServerlessApplicationResource
    row("AWS::CloudFormation::Stack", &["TemplateURL"], Url, Template),                    // CloudFormationStackResource
    row("AWS::CloudFormation::StackSet", &["TemplateURL"], Url, RawTemplate),              // CloudFormationStackSetResource (SAM)
    or_folder(row("AWS::CloudFormation::ModuleVersion", &["ModulePackage"], Uri, File)),   // CloudFormationModuleVersionModulePackage (SAM)
    or_folder(row("AWS::CloudFormation::ResourceVersion", &["SchemaHandlerPackage"], Uri, File)), // CloudFormationResourceVersionSchemaHandlerPackage (SAM)
    row("AWS::ApiGateway::RestApi", &["BodyS3Location"], S3, File),                        // ApiGatewayRestApiResource
    row("AWS::ApiGatewayV2::Api", &["BodyS3Location"], S3, File),                          // ApiGatewayV2Resource (SAM)
    row("AWS::StepFunctions::StateMachine", &["DefinitionS3Location"], S3, File),          // StepFunctionsStateMachineDefinitionResource
    or_folder(row("AWS::ElasticBeanstalk::ApplicationVersion", &["SourceBundle"], Form::Object("S3Bucket", "S3Key", None), File)), // ElasticBeanstalkApplicationVersion
    or_folder(row("AWS::Glue::Job", &["Command", "ScriptLocation"], Uri, File)),           // GlueJobCommandScriptLocationResource
    row("AWS::CodeCommit::Repository", &["Code", "S3"], Form::Object("Bucket", "Key", Some("ObjectVersion")), Zip), // CodeCommitRepositoryS3Resource
    row("AWS::AppSync::GraphQLSchema", &["DefinitionS3Location"], Uri, File),              // GraphQLSchemaResource
    row("AWS::AppSync::Resolver", &["RequestMappingTemplateS3Location"], Uri, File),       // AppSyncResolverRequestTemplateResource
    row("AWS::AppSync::Resolver", &["ResponseMappingTemplateS3Location"], Uri, File),      // AppSyncResolverResponseTemplateResource
    row("AWS::AppSync::Resolver", &["CodeS3Location"], Uri, File),                         // AppSyncResolverCodeResource (SAM)
    row("AWS::AppSync::FunctionConfiguration", &["RequestMappingTemplateS3Location"], Uri, File),  // AppSyncFunctionConfigurationRequestTemplateResource
    row("AWS::AppSync::FunctionConfiguration", &["ResponseMappingTemplateS3Location"], Uri, File), // AppSyncFunctionConfigurationResponseTemplateResource
    row("AWS::AppSync::FunctionConfiguration", &["CodeS3Location"], Uri, File),            // AppSyncFunctionConfigurationCodeResource (SAM)
];

/// `CodeUri` at any depth below `Resolvers` and `Functions` of an AWS::Serverless::GraphQLApi: GraphQLApiCodeResource.
pub const GRAPHQL_CODE: Property = row("AWS::Serverless::GraphQLApi", &["CodeUri"], Uri, File);

/// What AWS::Include takes in, anywhere in a template: include_transform_export_handler.
pub const INCLUDE: Property = row("AWS::Include", &["Location"], Uri, File);

/// Below `Metadata`: ServerlessRepoApplicationReadme and ServerlessRepoApplicationLicense.
pub const REPOSITORY: [Property; 2] = [
    row("AWS::ServerlessRepo::Application", &["ReadmeUrl"], Uri, File),
    row("AWS::ServerlessRepo::Application", &["LicenseUrl"], Uri, File),
];

/// Properties that name container images, which are pushed to a registry and not packaged: ServerlessFunctionImageResource
/// and LambdaFunctionImageResource.
pub const IMAGES: [(&str, &[&str]); 2] =
    [("AWS::Serverless::Function", &["ImageUri"]), ("AWS::Lambda::Function", &["Code", "ImageUri"])];

/// Sections of `Globals`, with the resource type whose properties they have.
pub const GLOBALS: [(&str, &str); 5] = [
    ("Function", "AWS::Serverless::Function"),
    ("Api", "AWS::Serverless::Api"),
    ("HttpApi", "AWS::Serverless::HttpApi"),
    ("StateMachine", "AWS::Serverless::StateMachine"),
    ("LayerVersion", "AWS::Serverless::LayerVersion"),
];

/// Returns the properties of a resource type that may name files.
pub fn of(resource: &str) -> impl Iterator<Item = &'static Property> {
    PROPERTIES.iter().filter(move |property| property.resource == resource)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// `UPDATE_DOCS=1 cargo test` writes it anew.
    #[test]
    fn the_documented_table_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/packaged-properties.md");
        let mut page = "# Properties that may name files on your machine\n\nWritten from the code \
            (`src/package/properties.rs`) by a test. All are those of `aws cloudformation package` 1.46.3 and of `sam package` \
            1.170.0; [packaging.md](packaging.md) says how they are read.\n\n\
            | resource type | property | uploaded | becomes | where it is absent |\n|---|---|---|---|---|\n"
            .to_owned();
        let includes = [&INCLUDE, &REPOSITORY[0], &REPOSITORY[1], &GRAPHQL_CODE];
        for property in PROPERTIES.iter().chain(includes) {
            let uploaded = match property.content {
                Code => "a zip of a folder or file; at most 250 MB unzipped",
                Zip => "a zip of a folder or file",
                File => "a file as it is; of a folder, a zip",
                Template => "a template, with everything local that it names itself",
                RawTemplate => "a template as it is",
            };
            let becomes = match &property.form {
                Uri => "`s3://bucket/key`".to_owned(),
                Url => "the template's https URL".to_owned(),
                Form::Object(bucket, key, _) => format!("`{{{bucket}, {key}}}`"),
            };
            let absent = if property.defaults_to_folder { "the template's folder" } else { "nothing" };
            let path = property.path.join(".");
            let _ = writeln!(page, "| {} | {path} | {uploaded} | {becomes} | {absent} |", property.resource);
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let documented = std::fs::read_to_string(path).unwrap_or_default();
        assert!(documented == page, "{path} is not what the code says: run UPDATE_DOCS=1 cargo test --lib");
    }
}
