//! The accounts that a configuration names, read before there is anything to release, or a bucket to release from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::files::Files;
use super::project::{self, CONFIG, StoreConfig, TenantsAt};
use super::schema::{self, Bootstrap, Tenant};
use crate::domain::{AccountId, Region};
use crate::source::edit::{Edit, Value, apply, without_item};
use crate::source::{Document, Problem, Problems};

/// The key that stands in a starter until there is one.
pub(super) const NO_KEY: &str = "key/00000000-0000-0000-0000-000000000000";

/// The accounts of a configuration.
#[derive(Debug)]
pub struct Accounts {
    /// The application's name.
    pub application: String,
    /// The artifact bucket; none while the configuration still has what a starter has in its place.
    pub store: Option<StoreConfig>,
    /// The region of the bucket, as far as the configuration says it.
    pub region: Region,
    /// The folder of the bucket that tenants read from, without a slash at its end.
    pub prefix: String,
    /// How accounts are set up.
    pub bootstrap: Bootstrap,
    /// The tenants.
    pub tenants: Vec<TenantAccount>,
    /// What roles' trust policies ask for where a tenant has nothing of its own. Treated as a secret.
    pub external_id: Option<String>,
    roles: RoleNames,
    stack: String,
    /// Where the list of tenants is, if nothing is written there.
    kept: Option<String>,
    /// The tenants that each stage names; none where it has all the others.
    stages: Vec<(String, Option<Vec<String>>)>,
    documents: Vec<Document>,
    tenants_at: TenantsAt,
}

/// A tenant's account, and its roles by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantAccount {
    /// The tenant's name.
    pub name: String,
    /// The account.
    pub account: AccountId,
    /// The roles in it.
    pub roles: RoleNames,
    /// What the roles' trust policies ask for, if anything. Treated as a secret.
    pub external_id: Option<String>,
    /// What the tenant can be selected by.
    pub labels: BTreeMap<String, String>,
    /// The account's state, where it is closed.
    pub closed: Option<String>,
}

/// Names of the roles in a tenant's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleNames {
    /// By which releases enter.
    pub access: String,
    /// By which plans enter.
    pub plan: String,
    /// Which CloudFormation uses.
    pub deployment: String,
}

impl RoleNames {
    fn of(own: &schema::Roles, all: &schema::Roles) -> Self {
        // A role that is given by its ARN has its name behind the last slash.
        let name = |own: &Option<String>, all: &Option<String>, standard: &str| {
            let given = own.as_deref().or(all.as_deref()).unwrap_or(standard);
            given.rsplit('/').next().unwrap_or(given).to_owned()
        };
        Self {
            access: name(&own.access, &all.access, "CodePipelineCrossAccountRole"),
            plan: name(&own.plan, &all.plan, "CodePipelineCrossAccountPlanRole"),
            deployment: name(&own.deployment, &all.deployment, "CloudFormationDeploymentRole"),
        }
    }
}

/// A file as it would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

impl Accounts {
    /// Reads a configuration and the file of its tenants, and neither template nor artifacts.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with them.
    pub fn read(files: &Files) -> Result<Self, Problems> {
        let (document, file) = project::read_file(&files.config)?;
        let root = files.config.parent().unwrap_or(Path::new(""));
        let mut documents = vec![document];
        let (tenants, tenants_at) = project::tenants_of(root, &file.tenants, files.tenants.as_ref(), &mut documents)?;
        let store =
            project::store(&file.store, &documents[CONFIG]).map_err(|problem| Problems::new(&documents, [problem]))?;
        let region = store.region.clone();
        let prefix = store.prefix.trim_end_matches('/').to_owned();
        let is_there = !file.store.kms_key.ends_with(NO_KEY);
        let mut accounts = Self {
            application: file.application.clone(),
            store: is_there.then_some(store),
            region,
            prefix,
            bootstrap: file.bootstrap.clone().unwrap_or_default(),
            stack: file.stack.clone(),
            kept: files.tenants.as_ref().map(|list| list.path.display().to_string()),
            stages: file.stages.iter().map(|(name, stage)| (name.clone(), stage.tenants.clone())).collect(),
            tenants: Vec::new(),
            external_id: file.roles.external_id.clone(),
            roles: RoleNames::of(&schema::Roles::default(), &file.roles),
            documents,
            tenants_at,
        };
        let (mut known, mut problems) = (BTreeMap::<AccountId, String>::new(), Vec::new());
        for (number, tenant) in tenants.iter().enumerate() {
            match accounts.account_of(tenant, number, &file.roles) {
                Ok(tenant) => {
                    if let Some(other) = known.insert(tenant.account.clone(), tenant.name.clone()) {
                        let message = format!("`{}` and `{other}` have the same account", tenant.name);
                        problems
                            .push(Problem::new(message).at(accounts.tenants_at.0, accounts.place(number, "account")));
                    }
                    accounts.tenants.push(tenant);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(accounts) } else { Err(Problems::new(&accounts.documents, problems)) }
    }

    fn account_of(&self, tenant: &Tenant, number: usize, roles: &schema::Roles) -> Result<TenantAccount, Problem> {
        let own = &tenant.roles;
        for given in
            [own, roles].into_iter().flat_map(|roles| [&roles.access, &roles.plan, &roles.deployment]).flatten()
        {
            // In an ARN a path stands between `role/` and the name.
            if given.matches('/').count() > usize::from(given.starts_with("arn:")) {
                let problem =
                    Problem::new(format!("role {given} has a path, and the roles that bootstrap makes have none"));
                return Err(problem
                    .at(self.tenants_at.0, self.place(number, "roles"))
                    .hint("name roles without a path"));
            }
        }
        let account = AccountId::new(tenant.account.0.clone())
            .map_err(|error| Problem::new(error.to_string()).at(self.tenants_at.0, self.place(number, "account")))?;
        Ok(TenantAccount {
            name: tenant.name.clone(),
            account,
            roles: RoleNames::of(&tenant.roles, roles),
            external_id: tenant.roles.external_id.clone().or_else(|| roles.external_id.clone()),
            labels: tenant.labels.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect(),
            closed: tenant.closed.clone(),
        })
    }

    fn place(&self, number: usize, key: &str) -> Range<usize> {
        let number = number.to_string();
        let keys: Vec<&str> = self.tenants_at.1.iter().copied().chain([number.as_str(), key]).collect();
        self.documents[self.tenants_at.0].value(&keys)
    }

    /// Returns the names of roles that all tenants have, unless they say otherwise.
    pub fn roles(&self) -> RoleNames {
        self.roles.clone()
    }

    /// Tells whether the names of a tenant's stacks begin with a prefix and a hyphen, as far as the configuration says.
    pub fn begins_with(&self, prefix: &str, tenant: &str) -> bool {
        let expanded = self.stack.replace("{application}", &self.application).replace("{tenant}", tenant);
        let known = expanded.split('{').next().unwrap_or_default();
        known.starts_with(&format!("{prefix}-"))
    }

    /// Returns a tenant by its name.
    pub fn tenant(&self, name: &str) -> Option<&TenantAccount> {
        self.tenants.iter().find(|tenant| tenant.name == name)
    }

    /// Returns the configuration with a bucket and its key in place of what a starter has; none where it names another
    /// bucket already, or no value can be put there.
    pub fn with_store(&self, bucket: &str, kms_key: &str) -> Option<Edited> {
        let document = &self.documents[CONFIG];
        if self.store.is_some() {
            return None;
        }
        let edit = |key: &str, value: &str| {
            let store = document.tree.child(document.tree.root()?, "store")?;
            let node = document.tree.node(document.tree.child(store, key)?);
            Value::Text(value.to_owned()).instead_of(node)
        };
        let edits = vec![edit("bucket", bucket)?, edit("kms-key", kms_key)?];
        Some(Edited { path: document.path.clone(), text: apply(&document.text, edits).ok()? })
    }

    /// Returns the list of tenants with one more at its end, written as the others are.
    ///
    /// # Errors
    ///
    /// Says why nothing can be added there.
    pub fn with_tenant(
        &self,
        name: &str,
        account: &AccountId,
        labels: &[(String, String)],
    ) -> Result<Edited, Problems> {
        if let Some(kept) = &self.kept {
            let problem = Problem::new(format!("the list of tenants is {kept}, and nothing is written there"));
            let problem = problem.at(CONFIG, self.documents[CONFIG].value(&["tenants"]));
            let tooling = if self.bootstrap.organization.is_some() { "" } else { "`tenantry bootstrap tooling` and " };
            let hint =
                format!("add account {account} there, then set it up with {tooling}`tenantry bootstrap tenant {name}`");
            return Err(Problems::new(&self.documents, [problem.hint(hint)]));
        }
        let document = &self.documents[self.tenants_at.0];
        let refused = |hint: String| {
            let problem = Problem::new("the list of tenants has a form that nothing can be added to");
            Problems::new(&self.documents, [problem.at(self.tenants_at.0, self.place(0, "name")).hint(hint)])
        };
        if let Some((key, _)) = labels.iter().enumerate().find_map(|(number, (key, value))| {
            labels[..number].iter().any(|(other, _)| other == key).then_some((key, value))
        }) {
            return Err(Problems::new(&[], [Problem::new(format!("label `{key}` is given twice"))]));
        }
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{}: {}", quoted(key), quoted(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("labels: {{ {} }}", labels.join(", ")) };
        let lines = |indent: &str| {
            let mut text = format!("{indent}- name: {}\n{indent}  account: \"{account}\"\n", quoted(name));
            if !labels.is_empty() {
                let _ = writeln!(text, "{indent}  {labels}");
            }
            text
        };
        let ranges = self.ranges().ok_or_else(|| refused(format!("add it by hand:\n{}", lines(""))))?;
        let indent: String = match ranges.last() {
            None => String::new(),
            Some(last) => document.text[last.clone()].chars().take_while(|c| *c == ' ').collect(),
        };
        let at = ranges.last().map_or(document.text.len(), |last| last.end);
        let mut new = lines(&indent);
        if !document.text[..at].ends_with('\n') && at > 0 {
            new.insert(0, '\n');
        }
        // Where others stand apart, so does this one.
        if ranges.len() > 1 && document.text[ranges[ranges.len() - 2].clone()].ends_with("\n\n") {
            new.insert(0, '\n');
        }
        if document.text.contains("\r\n") {
            new = new.replace('\n', "\r\n");
        }
        let (before, after) = document.text.split_at(at);
        let text = format!("{before}{new}{after}");
        let mut edited = vec![Edited { path: document.path.clone(), text }];
        let names = self.tenants.iter().map(|tenant| tenant.name.as_str()).chain([name]).collect();
        if !self.means(&edited, &names, None) {
            return Err(refused(format!("add it by hand:\n{}", lines(""))));
        }
        Ok(edited.swap_remove(0))
    }

    /// Returns where the list of tenants is, if nothing is written there.
    pub fn kept(&self) -> Option<&str> {
        self.kept.as_deref()
    }

    /// Returns the files without a tenant: its place in the list, and where stages name it.
    ///
    /// # Errors
    ///
    /// Says why it cannot be taken out.
    pub fn without_tenant(&self, name: &str) -> Result<Vec<Edited>, Problems> {
        if self.kept.is_some() {
            return Ok(Vec::new());
        }
        let refused = |of: &str| {
            let problem = Problem::new(format!("`{name}` cannot be taken out of {of}"));
            Problems::new(&self.documents, [problem.hint("take it out by hand")])
        };
        let mut edits: Vec<Vec<Edit>> = vec![Vec::new(); self.documents.len()];
        let number = self.tenants.iter().position(|tenant| tenant.name == name);
        let place = number.and_then(|number| self.ranges()?.into_iter().nth(number));
        let mut place = place.ok_or_else(|| refused("the list of tenants"))?;
        if number == Some(self.tenants.len() - 1) {
            // What set the last one apart goes with it.
            let before = &self.documents[self.tenants_at.0].text[..place.start];
            place.start -= before.len() - before.trim_end_matches('\n').len() - usize::from(place.start > 0);
        }
        edits[self.tenants_at.0].push(Edit { place, text: String::new() });
        let Document { text, tree, .. } = &self.documents[CONFIG];
        let stages = tree.root().and_then(|root| tree.child(root, "stages"));
        for (stage, id) in stages.map(|stages| tree.entries(stages)).unwrap_or_default() {
            let Some(list) = tree.child(id, "tenants") else { continue };
            let names = tree.entries(list).into_iter().enumerate();
            for (number, _) in names.filter(|(_, (_, item))| tree.text(*item) == Some(name)) {
                let edit = without_item(text, tree, list, number);
                edits[CONFIG].push(edit.ok_or_else(|| refused(&format!("stage {stage}")))?);
            }
        }
        let edited =
            self.documents.iter().zip(edits).filter(|(_, edits)| !edits.is_empty()).map(|(document, edits)| {
                let text = apply(&document.text, edits).map_err(|_| refused("the files"))?;
                Ok(Edited { path: document.path.clone(), text })
            });
        let edited: Vec<Edited> = edited.collect::<Result<_, Problems>>()?;
        let names = self.tenants.iter().map(|tenant| tenant.name.as_str()).filter(|other| *other != name).collect();
        if self.means(&edited, &names, Some(name)) { Ok(edited) } else { Err(refused("the files as they are written")) }
    }

    /// Tells whether edited files say what they are meant to: these tenants, and stages that name the same ones but for one
    /// that is gone. An edit that would say anything else is not made.
    fn means(&self, edited: &[Edited], tenants: &Vec<&str>, gone: Option<&str>) -> bool {
        let text = |number: usize| {
            let document = &self.documents[number];
            let new = edited.iter().find(|edited| edited.path == document.path);
            new.map_or(document.text.as_str(), |edited| edited.text.as_str())
        };
        let mut documents = vec![Document::new(&self.documents[CONFIG].path, text(CONFIG).to_owned())];
        let Ok(file) = documents[CONFIG].parse::<schema::File>(CONFIG) else { return false };
        let list = match &file.tenants {
            schema::Tenants::Inline(list) => Some(list.clone()),
            schema::Tenants::Kept(_) => None,
            schema::Tenants::File(_) => {
                let text = text(self.tenants_at.0);
                documents.push(Document::new(&self.documents[self.tenants_at.0].path, text.to_owned()));
                if project::is_blank(text) { Some(Vec::new()) } else { documents[1].parse(1).ok() }
            }
        };
        let names = list.map(|list: Vec<Tenant>| list.into_iter().map(|tenant| tenant.name).collect::<Vec<_>>());
        let stages = file.stages.iter().map(|(name, stage)| (name.clone(), stage.tenants.clone()));
        let without = |(stage, tenants): &(String, Option<Vec<String>>)| {
            let kept =
                |tenants: &Vec<String>| tenants.iter().filter(|name| Some(name.as_str()) != gone).cloned().collect();
            (stage.clone(), tenants.as_ref().map(kept))
        };
        names.is_some_and(|names| names == *tenants)
            && stages.collect::<Vec<_>>() == self.stages.iter().map(without).collect::<Vec<_>>()
    }

    /// Returns the lines of each tenant in a list of blocks: from its dash to that of the next one, or to where the list
    /// ends; none where the list has another form.
    fn ranges(&self) -> Option<Vec<Range<usize>>> {
        let document = &self.documents[self.tenants_at.0];
        let text = &document.text;
        let Some(mut list) = document.tree.root() else { return Some(Vec::new()) };
        for key in self.tenants_at.1 {
            list = document.tree.child(list, key)?;
        }
        let line_of = |at: usize| text[..at].rfind('\n').map_or(0, |end| end + 1);
        let mut starts = Vec::new();
        for (_, item) in document.tree.entries(list) {
            let start = line_of(document.tree.node(item).value.start);
            text[start..].trim_start_matches(' ').strip_prefix("- ")?;
            starts.push(start);
        }
        let Some(last) = starts.last().copied() else { return Some(Vec::new()) };
        // The last one ends before the first line that is indented no deeper than its dash, but for comments and blanks
        // that may follow within it.
        let depth = |line: &str| line.len() - line.trim_start_matches(' ').len();
        let (mut end, mut at) = (last, last);
        for (number, line) in text[last..].split_inclusive('\n').enumerate() {
            let is_blank = line.trim().is_empty();
            if number > 0 && !is_blank && depth(line) <= depth(&text[last..]) {
                break;
            }
            at += line.len();
            if !is_blank {
                end = at;
            }
        }
        let ends = starts.iter().skip(1).copied().chain([end]);
        Some(starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect())
    }
}

/// Writes a text so that YAML takes it for nothing else.
fn quoted(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&text.to_lowercase().as_str());
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURATION: &str = "application: app
template: t.yaml
store: # to fill in
  bucket: my-artifact-bucket
  kms-key: arn:aws:kms:eu-west-1:111111111111:key/00000000-0000-0000-0000-000000000000
stages: { prod: {} }
tenants:
  # the first ones
  - name: one
    account: \"222222222222\"

  - { name: two, account: \"333333333333\" }

# the end
regions: [eu-west-1]
";

    fn accounts(text: &str) -> (tempfile::TempDir, Accounts) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tenantry.yaml");
        std::fs::write(&path, text).unwrap();
        let accounts = Accounts::read(&Files::new(&path)).unwrap_or_else(|problems| panic!("{problems}"));
        (folder, accounts)
    }

    #[test]
    fn a_tenant_is_added_and_taken_out_again() {
        let (_folder, before) = accounts(CONFIGURATION);
        let labels = [("ring".to_owned(), "canary".to_owned()), ("on".to_owned(), "0".to_owned())];
        let added = before.with_tenant("three", &AccountId::new("444444444444").unwrap(), &labels).unwrap();
        let new = "\n  - name: three\n    account: \"444444444444\"\n    labels: { ring: canary, \"on\": \"0\" }\n";
        assert_eq!(added.text, CONFIGURATION.replace("\n# the end", &format!("{new}\n# the end")));
        let (_folder, with) = accounts(&added.text);
        assert_eq!(with.tenants.len(), 3);
        let again = with.without_tenant("three").unwrap();
        assert_eq!(again[0].text, CONFIGURATION);
        let (_folder, less) = accounts(&before.without_tenant("one").unwrap()[0].text);
        assert_eq!(less.tenants.iter().map(|tenant| tenant.name.as_str()).collect::<Vec<_>>(), ["two"]);
    }

    #[test]
    fn stages_that_name_a_tenant_forget_it_too() {
        for (stages, without) in [
            ("{ dev: { tenants: [one] }, prod: {} }", "{ dev: { tenants: [] }, prod: {} }"),
            ("{ dev: { tenants: [one, two] } }", "{ dev: { tenants: [two] } }"),
            ("{ dev: { tenants: [two, one] } }", "{ dev: { tenants: [two] } }"),
            ("\n  dev:\n    tenants:\n      - two\n      - one # here\n", "\n  dev:\n    tenants:\n      - two\n"),
        ] {
            let (_folder, before) = accounts(&CONFIGURATION.replace("{ prod: {} }", stages));
            let text = &before.without_tenant("one").unwrap()[0].text;
            assert!(text.contains(&format!("stages: {without}")), "{text}");
        }
    }

    #[test]
    fn what_a_starter_has_for_a_bucket_is_replaced_once() {
        let (_folder, before) = accounts(CONFIGURATION);
        assert!(before.store.is_none());
        let key = "arn:aws:kms:eu-west-1:999999999999:key/11111111-0000-0000-0000-000000000000";
        let (_folder, with) = accounts(&before.with_store("tenantry-999999999999-eu-west-1", key).unwrap().text);
        let store = with.store.clone().unwrap();
        assert_eq!((store.bucket.as_str(), store.kms_key.as_str()), ("tenantry-999999999999-eu-west-1", key));
        assert_eq!(with.with_store("other", key), None);
    }

    #[test]
    fn no_file_is_written_that_says_something_else() {
        let account = AccountId::new("444444444444").unwrap();
        let (_folder, before) = accounts(CONFIGURATION);
        for name in ["null", "true", "0123", "on"] {
            let (_folder, with) = accounts(&before.with_tenant(name, &account, &[]).unwrap().text);
            assert_eq!(with.tenants[2].name, name);
        }
        let twice = [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
        assert!(before.with_tenant("three", &account, &twice).is_err());
        let (_folder, crlf) = accounts(&CONFIGURATION.replace('\n', "\r\n"));
        let added = crlf.with_tenant("three", &account, &[]).unwrap().text;
        assert_eq!(added.matches('\n').count(), added.matches("\r\n").count());
        // A stage whose only tenant goes would mean all others.
        let only = CONFIGURATION.replace("{ prod: {} }", "\n  dev:\n    tenants:\n      - one\n  prod: {}\n");
        let (_folder, block) = accounts(&only);
        assert!(block.without_tenant("one").is_err());
        // And the only tenant of a block leaves no list.
        let start = CONFIGURATION.split("  # the first").next().unwrap();
        let (_folder, single) = accounts(&format!("{start}  - name: one\n    account: \"222222222222\"\n"));
        assert!(single.without_tenant("one").is_err());
    }

    #[test]
    fn a_list_in_brackets_is_left_to_its_owner() {
        let text = CONFIGURATION.split("tenants:").next().unwrap().to_owned()
            + "tenants: [{ name: one, account: \"222222222222\" }]\n";
        let (_folder, before) = accounts(&text);
        let refused = before.with_tenant("three", &AccountId::new("444444444444").unwrap(), &[]).unwrap_err();
        assert!(refused.to_string().contains("add it by hand"), "{refused}");
        assert!(before.without_tenant("one").is_err());
    }
}
