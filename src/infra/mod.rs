//! The accounts around a release: what `infra/` makes in them, and whether it fits.
//!
//! The templates are part of the binary, so that whoever has it can set accounts up, and always with the policies that
//! this version was tested with.

mod limits;
mod needs;
mod program;
mod resolve;

use std::collections::BTreeMap;

pub use limits::{Overflow, Sizes, most_accounts};
pub use needs::{Comparison, compare, types as resource_types};
pub use program::check_program;
pub use resolve::{Resolved, Setting, resolve};

use crate::domain::{Digest, ParameterValue, Release, TemplateObject};

/// What is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The tooling account: key, bucket, and what those who plan, release and approve may do.
    Tooling,
    /// A tenant's account: the roles by which it is entered, and the one that CloudFormation uses.
    Tenant,
    /// The pipeline, in the tooling account.
    Pipeline,
    /// Roles for GitHub's workflows, in the tooling account.
    Github,
    /// Machines that execute a plan together, in the tooling account.
    Fleet,
}

impl Part {
    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tooling => "tooling",
            Self::Tenant => "tenant",
            Self::Pipeline => "pipeline",
            Self::Github => "github",
            Self::Fleet => "fleet",
        }
    }

    /// Returns its template.
    pub fn template(self) -> &'static str {
        match self {
            Self::Tooling => include_str!("../../infra/tooling.yaml"),
            Self::Tenant => include_str!("../../infra/tenant.yaml"),
            Self::Pipeline => include_str!("../../infra/pipeline.yaml"),
            Self::Github => include_str!("../../infra/github.yaml"),
            Self::Fleet => include_str!("../../infra/fleet.yaml"),
        }
    }

    /// Returns the template as what is released: its version is its content.
    pub fn release(self) -> Release {
        let template = TemplateObject { sha256: Digest::of(self.template()), key: String::new() };
        let (application, none) = (format!("tenantry-{}", self.name()), BTreeMap::new());
        Release::new(&application, "", BTreeMap::new(), none, template, crate::domain::release::Provenance::default())
    }
}

/// Template parameters by name.
pub type Parameters = BTreeMap<String, ParameterValue>;

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Part; 5] = [Part::Tooling, Part::Tenant, Part::Pipeline, Part::Github, Part::Fleet];

    /// CloudFormation takes no template with a null in it, wherever it stands; cfn-lint and the emulator do.
    #[test]
    fn no_template_has_a_null() {
        fn nulls(value: &serde_yaml::Value) -> usize {
            match value {
                serde_yaml::Value::Null => 1,
                serde_yaml::Value::Sequence(list) => list.iter().map(nulls).sum(),
                serde_yaml::Value::Mapping(map) => map.iter().map(|(_, value)| nulls(value)).sum(),
                serde_yaml::Value::Tagged(tagged) => nulls(&tagged.value),
                _ => 0,
            }
        }
        for part in ALL {
            assert_eq!(nulls(&serde_yaml::from_str(part.template()).unwrap()), 0, "{}", part.name());
        }
    }

    /// Source: TemplateBody in <https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateChangeSet.html>
    #[test]
    fn each_template_fits_into_a_request() {
        for part in ALL {
            assert!(part.template().len() <= 51_200, "{}", part.name());
        }
    }
}
