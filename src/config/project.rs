//! The configuration with its documents, and the targets that follow from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use super::files::Files;
use super::schema::{self, Tenant, Tenants, Text};
use super::template::Template;
use super::variables::expand;
use super::waves;
use crate::domain::release::Provenance;
use crate::domain::{
    AccountId, Alarm, ApprovalPolicy, Artifact, AutoRule, Check, Digest, Gate, Masks, ParameterValue, Region, Release,
    ReleaseId, Rollout, StackOptions, Target, TargetId, TemplateObject, is_reference,
};
use crate::package::assembly::{self, Stack};
use crate::package::{Input, Sources};
use crate::plan::Selection;
use crate::source::{Document, Problem, Problems, closest};

/// A project: everything that the files say.
#[derive(Debug)]
pub struct Project {
    /// The files that were read, for messages.
    pub documents: Vec<Document>,
    /// The application's name.
    pub application: String,
    /// The application's name as it is written, without that of one of several stacks.
    pub family: String,
    /// Which of several stacks of an assembly it is.
    pub stack: Option<String>,
    /// The template, as far as it was read.
    pub template: Template,
    /// The template with everything local that it names.
    pub input: Input,
    /// The name that the CDK would give the stack, where the template is one of its.
    pub cdk_stack: Option<String>,
    /// The region that the CDK has made the stack for, where it is one only.
    pub(super) cdk_region: Option<String>,
    /// What is wrong with that.
    pub(super) unpackable: Vec<Problem>,
    /// Whether a release can be made of it.
    pub(super) is_source: bool,
    /// Whether its template is here.
    pub(super) has_template: bool,
    /// What is zipped, by name.
    pub artifacts: BTreeMap<String, ArtifactSource>,
    /// The artifact bucket.
    pub store: StoreConfig,
    /// The stages in their order.
    pub stages: Vec<StageConfig>,
    /// Who is told.
    pub notify: Vec<schema::Notify>,
    pub(super) file: schema::File,
    pub(super) tenants: Vec<Tenant>,
    tenants_at: TenantsAt,
    environment: Environment,
    pub(super) root: PathBuf,
}

/// Values that parameters can have from the environment of the process: all of them are treated as secrets.
#[derive(Clone, Default)]
pub struct Environment(pub BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A folder to be zipped, or a zip.
#[derive(Debug, Clone)]
pub struct ArtifactSource {
    /// Where it is, from the working directory.
    pub path: PathBuf,
    /// Globs of the files to take.
    pub include: Vec<String>,
    /// Globs of the files to leave out.
    pub exclude: Vec<String>,
}

/// The artifact bucket.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The bucket's name.
    pub bucket: String,
    /// ARN of the key.
    pub kms_key: String,
    /// Prefix of what tenants may read, with a slash at its end.
    pub prefix: String,
    /// The account that owns the bucket.
    pub account: AccountId,
    /// The bucket's region.
    pub region: Region,
}

/// A stage.
#[derive(Debug, Clone)]
pub struct StageConfig {
    /// Its name.
    pub name: String,
    /// What opens the way between plan and apply.
    pub gate: Gate,
    /// The pace.
    pub rollout: Rollout,
    /// What is asked of CloudFormation beside the template.
    pub options: StackOptions,
    tenants: Vec<usize>,
}

/// The place of a value: a document's number and the keys that lead there.
pub(super) type Place = (usize, Vec<String>);

/// A target with the places of its parameters.
pub(super) struct Resolved {
    pub target: Target,
    /// The tenant's place in the list of tenants.
    pub tenant: usize,
    pub parameters_at: BTreeMap<String, Place>,
}

pub(super) const CONFIG: usize = 0;
pub(super) const TEMPLATE: usize = 1;

/// Reads the files of a project, without looking into what they mean.
///
/// `stack` says which of an assembly's stacks is meant, where the template is a folder.
pub(super) fn read(files: &Files, environment: Environment, stack: Option<&str>) -> Result<Project, Problems> {
    let (document, mut file) = read_file(&files.config)?;
    let root = files.config.parent().unwrap_or(Path::new("")).to_owned();
    let at_template = |problem: Problem| {
        Problems::new(std::slice::from_ref(&document), [problem.at(CONFIG, document.value(&["template"]))])
    };
    let stacks = stacks_of(&root, &file).map_err(at_template)?;
    let several = stacks.len() > 1;
    let family = file.application.clone();
    if several && !["{application}", "{stack}"].iter().any(|name| file.stack.contains(name)) {
        let problem = Problem::new("all stacks of the assembly would be one stack in a tenant's account");
        let problem = problem.at(CONFIG, document.value(&["stack"])).hint("use {stack} or {application} in its name");
        return Err(Problems::new(std::slice::from_ref(&document), [problem]));
    }
    let cdk = choose(stacks, stack).map_err(at_template)?;
    let template_path = cdk.as_ref().map_or_else(|| root.join(&file.template), |stack| stack.template.clone());
    if let Some(stack) = &cdk {
        // Each stack is an application of its own, released after those that it depends on.
        if several {
            file.application = format!("{}-{}", file.application, stack.id);
        }
        for (key, value) in &stack.tags {
            file.tags.entry(key.clone()).or_insert_with(|| Text(value.replace('{', "{{").replace('}', "}}")));
        }
    }

    let mut documents = vec![document];
    let template = match Document::read(&template_path, "the template") {
        // What is in the store was built elsewhere.
        Err(_) if !files.are_source && is_file_name(&template_path) && !template_path.exists() => {
            documents.push(Document::new(&template_path, String::new()));
            None
        }
        Err(problem) => {
            return Err(Problems::new(&documents, [problem.at(CONFIG, documents[CONFIG].value(&["template"]))]));
        }
        Ok(document) => {
            let document = match document.expanded(TEMPLATE) {
                Ok(document) => document,
                Err(problem) => {
                    documents
                        .push(Document::read(&template_path, "the template").map_err(|p| Problems::new(&[], [p]))?);
                    return Err(Problems::new(&documents, [problem]));
                }
            };
            let parsed = Template::parse(&document.text);
            documents.push(document);
            Some(parsed.map_err(|why| {
                let problem = Problem::new(format!("{} is not a template: {why}", documents[TEMPLATE].path.display()));
                Problems::new(&documents, [problem.at(CONFIG, documents[CONFIG].value(&["template"]))])
            })?)
        }
    };
    let (tenants, tenants_at) = tenants_of(&root, &file.tenants, files.tenants.as_ref(), &mut documents)?;

    let cdk_stack = cdk.as_ref().map(|stack| stack.name.clone());
    let stack = cdk.as_ref().filter(|_| several).map(|stack| stack.id.clone());
    let cdk_region = cdk.as_ref().and_then(|stack| stack.region.clone());
    let (input, unpackable) = if let Some(stack) = cdk {
        let problems = stack.problems(&documents[TEMPLATE]);
        let at = documents[CONFIG].value(&["template"]);
        let problems = problems.into_iter().map(|problem| problem.at(CONFIG, at.clone())).collect();
        (Input::Stack(Box::new(stack), Box::new(documents[TEMPLATE].clone())), problems)
    } else {
        let (sources, problems) = Sources::of_template(documents[TEMPLATE].clone());
        // Nested templates come after all other documents.
        let nested = documents.len() - 1;
        documents.extend(sources.documents.iter().skip(1).cloned());
        let number = |number| if number == 0 { TEMPLATE } else { nested + number };
        (Input::Template(sources), problems.into_iter().map(|problem| problem.renumbered(number)).collect())
    };

    let mut problems = Vec::new();
    let store = store(&file.store, &documents[CONFIG]).map_err(|problem| problems.push(problem)).ok();
    let stages = stages(&file, &tenants, &documents[CONFIG], &mut problems);
    let Some(store) = store.filter(|_| problems.is_empty()) else { return Err(Problems::new(&documents, problems)) };
    Ok(Project {
        application: file.application.clone(),
        family,
        stack,
        artifacts: artifact_sources(&root, &file.artifacts),
        documents,
        is_source: files.are_source,
        has_template: template.is_some(),
        template: template.unwrap_or_default(),
        input,
        cdk_stack,
        cdk_region,
        unpackable,
        store,
        stages,
        notify: file.notify.clone(),
        file,
        tenants,
        tenants_at,
        environment,
        root,
    })
}

pub(super) fn read_file(path: &Path) -> Result<(Document, schema::File), Problems> {
    let document = Document::read(path, "the configuration").map_err(|problem| {
        Problems::new(&[], [problem.hint("write one with `tenantry init`, or name yours with --config")])
    })?;
    let file = document.parse(CONFIG).map_err(|problem| Problems::new(std::slice::from_ref(&document), [problem]))?;
    Ok((document, file))
}

/// Tells whether a path is a template's by its name. What an assembly's stacks are called is told by itself alone.
pub(super) fn is_file_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["json", "template", "yaml", "yml"].contains(&extension)
}

/// Where the list of tenants is: a document's number and the keys that lead there.
pub(super) type TenantsAt = (usize, &'static [&'static str]);

/// Tells whether a text has nothing but comments.
pub(super) fn is_blank(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim().starts_with('#'))
}

/// Returns the tenants and where they are; a list of their own, which may be `given`, is added to the documents.
pub(super) fn tenants_of(
    root: &Path,
    tenants: &Tenants,
    given: Option<&Document>,
    documents: &mut Vec<Document>,
) -> Result<(Vec<Tenant>, TenantsAt), Problems> {
    let number = documents.len();
    let at = |problem: Problem| Problems::new(documents, [problem.at(CONFIG, documents[CONFIG].value(&["tenants"]))]);
    let document = match (given, tenants) {
        (Some(given), _) => given.clone(),
        (None, Tenants::Inline(list)) => return Ok((list.clone(), (CONFIG, &["tenants"]))),
        (None, Tenants::File(name)) => Document::read(&root.join(name), "the tenants").map_err(at)?,
        (None, Tenants::Kept(_)) => {
            let problem = Problem::new("the tenants are kept in AWS, and were not read");
            return Err(at(problem.hint("give them with `--tenants FILE`")));
        }
    };
    // A file of which the last tenant was taken out has nothing in it.
    let is_empty = is_blank(&document.text);
    documents.push(document);
    if is_empty {
        return Ok((Vec::new(), (number, &[])));
    }
    let list = documents[number].parse(number).map_err(|problem| Problems::new(documents, [problem]))?;
    Ok((list, (number, &[])))
}

/// Returns the stacks of the assembly that a configuration names; none where it names a template.
fn stacks_of(root: &Path, file: &schema::File) -> Result<Vec<Stack>, Problem> {
    let folder = root.join(&file.template);
    if folder.is_dir() { assembly::stacks(&folder) } else { Ok(Vec::new()) }
}

/// Chooses one of an assembly's stacks.
fn choose(stacks: Vec<Stack>, wanted: Option<&str>) -> Result<Option<Stack>, Problem> {
    let names: Vec<String> = stacks.iter().map(|stack| stack.id.clone()).collect();
    let known = || names.iter().map(String::as_str);
    match (wanted, stacks.len()) {
        (None, 0 | 1) => Ok(stacks.into_iter().next()),
        (Some(_), 0) => Err(Problem::new("--stack chooses a stack of a CDK assembly, and this is a template")),
        (None, _) => {
            let problem = Problem::new(format!("the assembly has {} stacks, and this command is for one", names.len()));
            Err(problem.hint(format!("choose one with --stack: {}", names.join(", "))))
        }
        (Some(wanted), _) => stacks.into_iter().find(|stack| stack.id == wanted).map(Some).ok_or_else(|| {
            let problem = Problem::new(format!("the assembly has no stack `{wanted}`"));
            match closest(wanted, known()) {
                Some(_) => problem.did_you_mean(wanted, known()),
                None => problem.hint(format!("its stacks are: {}", names.join(", "))),
            }
        }),
    }
}

/// Returns the names of the stacks that a configuration releases, each after those that it depends on; one without a
/// name where it names a template, or an assembly with one stack.
///
/// # Errors
///
/// Says why the configuration or the assembly cannot be read.
pub(super) fn stacks(path: &Path) -> Result<Vec<Option<String>>, Problems> {
    let (document, file) = read_file(path)?;
    let root = path.parent().unwrap_or(Path::new(""));
    let stacks = stacks_of(root, &file).map_err(|problem| {
        Problems::new(std::slice::from_ref(&document), [problem.at(CONFIG, document.value(&["template"]))])
    })?;
    match stacks.len() {
        0 | 1 => Ok(vec![None]),
        _ => Ok(stacks.into_iter().map(|stack| Some(stack.id)).collect()),
    }
}

/// Returns what is zipped, by name, with paths from the working directory.
fn artifact_sources(root: &Path, artifacts: &BTreeMap<String, schema::Artifact>) -> BTreeMap<String, ArtifactSource> {
    let source = |(name, artifact): (&String, &schema::Artifact)| {
        let schema::Artifact { path, include, exclude } = artifact.clone();
        (name.clone(), ArtifactSource { path: root.join(path), include, exclude })
    };
    artifacts.iter().map(source).collect()
}

pub(super) fn store(store: &schema::Store, document: &Document) -> Result<StoreConfig, Problem> {
    let key_at = document.value(&["store", "kms-key"]);
    let wrong_key = || {
        Problem::new(format!("`{}` is not the ARN of a KMS key", store.kms_key))
            .at(CONFIG, key_at.clone())
            .hint("write arn:aws:kms:REGION:ACCOUNT:key/ID: an alias would hide which key an object is encrypted under")
    };
    let parts: Vec<&str> = store.kms_key.split(':').collect();
    let &["arn", _, "kms", region, account, resource] = parts.as_slice() else { return Err(wrong_key()) };
    if resource.strip_prefix("key/").is_none_or(str::is_empty) {
        return Err(wrong_key());
    }
    let account = AccountId::new(store.account.as_deref().unwrap_or(account))
        .map_err(|error| Problem::new(error.to_string()).at(CONFIG, document.value(&["store", "account"])))?;
    let region = Region::new(store.region.as_deref().unwrap_or(region))
        .map_err(|error| Problem::new(error.to_string()).at(CONFIG, document.value(&["store", "region"])))?;
    let prefix = format!("{}/", store.prefix.trim_matches('/'));
    Ok(StoreConfig { bucket: store.bucket.clone(), kms_key: store.kms_key.clone(), prefix, account, region })
}

/// Reads the stages, and which tenants belong to each.
fn stages(
    file: &schema::File,
    tenants: &[Tenant],
    document: &Document,
    problems: &mut Vec<Problem>,
) -> Vec<StageConfig> {
    let is_open = |number: &usize| tenants[*number].closed.is_none();
    let named: BTreeSet<&str> =
        file.stages.values().flat_map(|stage| stage.tenants.iter().flatten()).map(String::as_str).collect();
    let by_name: HashMap<&str, usize> =
        (0..).zip(tenants).map(|(number, tenant)| (tenant.name.as_str(), number)).collect();
    let mut stages = Vec::new();
    for (name, stage) in &file.stages {
        let members: Vec<usize> = match &stage.tenants {
            None => (0..tenants.len())
                .filter(|number| !named.contains(tenants[*number].name.as_str()))
                .filter(is_open)
                .collect(),
            Some(names) => {
                let find = |(place, wanted): (usize, &String)| {
                    let found = by_name.get(wanted.as_str()).copied();
                    if found.is_none() {
                        let at = document.value(&["stages", name, "tenants", &place.to_string()]);
                        let problem = Problem::new(format!("there is no tenant `{wanted}`")).at(CONFIG, at);
                        let known = tenants.iter().map(|tenant| tenant.name.as_str());
                        problems.push(problem.did_you_mean_tenant(wanted, known, problems.len()));
                    }
                    found
                };
                names.iter().enumerate().filter_map(find).filter(is_open).collect()
            }
        };
        let rollout = waves::policy(&stage.rollout);
        let gate = match stage.gate.approval {
            schema::Approval::None => Gate::Open,
            schema::Approval::Required => Gate::Approval(policy(name, &stage.gate)),
        };
        let options = stage.stack_options.clone();
        stages.push(StageConfig { name: name.clone(), gate, rollout, options, tenants: members });
    }
    stages
}

/// Reads whose approvals count.
fn policy(stage: &str, gate: &schema::Gate) -> ApprovalPolicy {
    let standard = ApprovalPolicy::default();
    let rule = |rule: &schema::AutoApprove| match rule {
        schema::AutoApprove::NoChanges => AutoRule::NoChanges,
        schema::AutoApprove::NoRemovals => AutoRule::NoRemovals,
        schema::AutoApprove::NoReplacements => AutoRule::NoReplacements,
        schema::AutoApprove::ResourceTypes(types) => AutoRule::ResourceTypes(types.clone()),
        schema::AutoApprove::MaxTargets(most) => AutoRule::Targets(*most as usize),
    };
    ApprovalPolicy {
        approvers: gate.approvers.map_or(standard.approvers, |number| number as usize),
        four_eyes: gate.four_eyes,
        principals: gate.principals.clone(),
        expires: gate.expires.map_or(standard.expires, |span| span.0),
        github_environment: gate.github_environment.clone().unwrap_or_else(|| stage.to_owned()),
        auto_approve: gate.auto_approve.iter().map(rule).collect(),
    }
}

impl StageConfig {
    /// Returns a stage that no configuration names: accounts that are set up.
    pub fn of_accounts(name: &str, rollout: Rollout, options: StackOptions) -> Self {
        Self { name: name.to_owned(), gate: Gate::Open, rollout, options, tenants: Vec::new() }
    }

    /// Returns the tenants of the stage, by their places in the list.
    pub(super) fn members(&self) -> &[usize] {
        &self.tenants
    }
}

impl Project {
    /// Returns a stage by its name.
    ///
    /// # Errors
    ///
    /// Names the stages that there are.
    pub fn stage(&self, name: &str) -> Result<&StageConfig, Problems> {
        self.stages.iter().find(|stage| stage.name == name).ok_or_else(|| {
            let known = self.stages.iter().map(|stage| stage.name.as_str());
            let list: Vec<&str> = known.clone().collect();
            let problem = Problem::new(format!("there is no stage `{name}`"));
            let problem = match closest(name, known.clone()) {
                Some(_) => problem.did_you_mean(name, known),
                None => problem.hint(format!("the stages are: {}", list.join(", "))),
            };
            Problems::new(&[], [problem])
        })
    }

    /// Returns the stage of that name, or all in their order where none is named.
    ///
    /// # Errors
    ///
    /// Names the stages that there are.
    pub fn stages_or(&self, only: Option<&str>) -> Result<Vec<StageConfig>, Problems> {
        only.map_or_else(|| Ok(self.stages.clone()), |name| Ok(vec![self.stage(name)?.clone()]))
    }

    /// Returns the selected targets of a stage for a release, in the order of the configuration.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the configuration or the selection.
    pub fn targets(
        &self,
        stage: &StageConfig,
        release: &Release,
        selection: &Selection,
    ) -> Result<Vec<Target>, Problems> {
        let mut problems = self.unknown_tenants(selection);
        let mut targets = self.resolve(stage, release, &mut problems);
        if !problems.is_empty() {
            return Err(Problems::new(&self.documents, problems));
        }
        let exactly: Option<BTreeSet<&TargetId>> = selection.targets.as_ref().map(|targets| targets.iter().collect());
        targets.retain(|resolved| {
            is_selected(&self.tenants[resolved.tenant], selection)
                && exactly.as_ref().is_none_or(|targets| targets.contains(&resolved.target.id))
        });
        Ok(targets.into_iter().map(|resolved| resolved.target).collect())
    }

    /// Tells whether a selection leaves a tenant of a stage.
    pub fn selects(&self, stage: &StageConfig, selection: &Selection) -> bool {
        stage.tenants.iter().any(|number| is_selected(&self.tenants[*number], selection))
    }

    /// Checks that a selection names tenants that exist and are in one of the stages, and that it leaves a target.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn check_selection<'a>(
        &self,
        stages: impl IntoIterator<Item = &'a StageConfig>,
        selection: &Selection,
    ) -> Result<(), Problems> {
        let mut problems = self.unknown_tenants(selection);
        let members: Vec<&Tenant> =
            stages.into_iter().flat_map(|stage| &stage.tenants).map(|number| &self.tenants[*number]).collect();
        let names: BTreeSet<&str> = members.iter().map(|tenant| tenant.name.as_str()).collect();
        let elsewhere = selection.tenants.iter().filter(|name| !names.contains(name.as_str()));
        if problems.is_empty() {
            problems.extend(elsewhere.map(|name| Problem::new(format!("tenant `{name}` is not in the stage"))));
        }
        if problems.is_empty() && !members.iter().any(|tenant| is_selected(tenant, selection)) {
            let hint = "compare --tenant and --label with the tenants of the stage";
            problems.push(Problem::new("no target is selected").hint(hint));
        }
        if problems.is_empty() { Ok(()) } else { Err(Problems::new(&[], problems)) }
    }

    fn unknown_tenants(&self, selection: &Selection) -> Vec<Problem> {
        let known = || self.tenants.iter().map(|tenant| tenant.name.as_str());
        let names: BTreeSet<&str> = known().collect();
        let unknown = selection.tenants.iter().filter(|name| !names.contains(name.as_str()));
        let told = |(before, name): (usize, &String)| {
            Problem::new(format!("there is no tenant `{name}`")).did_you_mean_tenant(name, known(), before)
        };
        unknown.enumerate().map(told).collect()
    }

    /// Returns a release that stands for the one to come, so that everything that depends on it can be checked
    /// before anything is packaged.
    pub fn release_to_come(&self) -> Release {
        let shared = format!("{}shared/{}", self.store.prefix, self.application);
        let sha256 = Digest::of("");
        let artifact = |name: &String| {
            (name.clone(), Artifact { sha256, size: 0, key: format!("{shared}/artifacts/{sha256}.zip") })
        };
        let template = TemplateObject { sha256, key: format!("{shared}/templates/{sha256}.yaml") };
        let artifacts = self.artifacts.keys().map(artifact).collect();
        let variants = BTreeMap::new();
        Release::new(&self.application, &self.store.bucket, artifacts, variants, template, Provenance::default())
    }

    /// Returns what is zipped for single tenants: the tenant, its account, and the artifacts that are its own.
    pub fn variants(&self) -> Vec<(String, AccountId, BTreeMap<String, ArtifactSource>)> {
        let own = |tenant: &Tenant| {
            let account = AccountId::new(tenant.account.0.clone()).ok()?;
            (!tenant.artifacts.is_empty())
                .then(|| (tenant.name.clone(), account, artifact_sources(&self.root, &tenant.artifacts)))
        };
        self.tenants.iter().filter_map(own).collect()
    }

    /// Returns the stage that a tenant is in.
    pub fn stage_of(&self, tenant: &str) -> Option<&StageConfig> {
        self.stages.iter().find(|stage| stage.tenants.iter().any(|number| self.tenants[*number].name == tenant))
    }

    /// Returns the stage before another.
    pub fn stage_before(&self, name: &str) -> Option<&StageConfig> {
        let place = self.stages.iter().position(|stage| stage.name == name)?;
        place.checked_sub(1).map(|before| &self.stages[before])
    }

    /// Returns every map of parameters that there is.
    fn parameter_maps(&self) -> impl Iterator<Item = &BTreeMap<String, Text>> {
        std::iter::once(&self.file.parameters)
            .chain(self.file.stages.values().map(|stage| &stage.parameters))
            .chain(self.tenants.iter().map(|tenant| &tenant.parameters))
            .chain(self.tenants.iter().flat_map(|tenant| tenant.region_parameters.values()))
    }

    /// Returns the values of the environment that parameters ask for, also within longer texts.
    fn asked_of_environment(&self) -> impl Iterator<Item = String> {
        self.variables_asked().into_iter().filter_map(|name| self.environment.0.get(name).cloned())
    }

    /// Returns the names of the environment's variables that parameters ask for.
    pub fn variables_asked(&self) -> BTreeSet<&str> {
        let texts = self.parameter_maps().flat_map(BTreeMap::values);
        let names = texts.flat_map(|text| text.0.split("{environment.").skip(1));
        names.filter_map(|rest| rest.split('}').next()).collect()
    }

    /// Returns the names of parameters that have a value from the environment somewhere: they are secrets.
    pub fn parameters_of_environment(&self) -> BTreeSet<String> {
        let maps = self.parameter_maps();
        let secret = |(name, value): (&String, &Text)| value.0.contains("{environment.").then(|| name.clone());
        maps.flatten().filter_map(secret).collect()
    }

    /// Returns the names of all parameters that are secrets where the template here is released.
    pub fn secret_parameters(&self) -> BTreeSet<String> {
        let mut names = self.parameters_of_environment();
        names.extend(self.template.no_echo());
        names
    }

    /// Returns the targets of a stage as far as they are known before anything is packaged.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the configuration.
    pub fn targets_to_come(&self, stage: &StageConfig) -> Result<Vec<Target>, Problems> {
        self.targets(stage, &self.release_to_come(), &Selection::default())
    }

    /// Returns the configuration and the tenants' file, which are in no artifact: they may have secrets.
    pub fn files(&self) -> Vec<PathBuf> {
        let tenants = (self.tenants_at.0 != CONFIG).then_some(self.tenants_at.0);
        [Some(CONFIG), tenants].into_iter().flatten().map(|number| self.documents[number].path.clone()).collect()
    }

    /// Returns what hides every value that must never be shown: those of NoEcho parameters, as they are written and
    /// as each target gets them, and external ids.
    pub fn masks(&self) -> Masks {
        Masks::new(self.secret_values(&self.secret_parameters()))
    }

    /// Returns every value that must never be shown.
    pub fn secret_values(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        let written = |map: &BTreeMap<String, Text>| -> Vec<String> {
            let secret = map.iter().filter(|(name, _)| names.contains(*name)).map(|(_, value)| value.0.clone());
            // What has variables is a secret with their values in it, as each target gets it.
            secret.filter(|value| !value.contains('{')).collect()
        };
        let mut values = written(&self.file.parameters);
        values.extend(self.file.stages.values().flat_map(|stage| written(&stage.parameters)));
        for tenant in &self.tenants {
            values.extend(written(&tenant.parameters));
            values.extend(tenant.region_parameters.values().flat_map(written));
            values.extend(tenant.roles.external_id.clone());
        }
        values.extend(self.file.roles.external_id.clone());
        if !names.is_empty() {
            let release = self.release_to_come();
            let targets = self.stages.iter().flat_map(|stage| self.resolve(stage, &release, &mut Vec::new()));
            let secret = |resolved: Resolved| {
                let parameters = resolved.target.parameters.into_iter();
                let texts = parameters.filter(|(name, _)| names.contains(name));
                texts.filter_map(|(_, value)| value.text().map(str::to_owned)).collect::<Vec<_>>()
            };
            values.extend(targets.flat_map(secret));
        }
        values.extend(self.asked_of_environment());
        // What only refers to a secret is none.
        values.into_iter().filter(|value| !value.is_empty() && !is_reference(value)).collect()
    }

    /// Returns all targets of a stage with the places of their parameters.
    pub(super) fn resolve(&self, stage: &StageConfig, release: &Release, problems: &mut Vec<Problem>) -> Vec<Resolved> {
        let mut targets = Vec::new();
        for &number in &stage.tenants {
            let tenant = &self.tenants[number];
            let regions = if tenant.regions.is_empty() { &self.file.regions } else { &tenant.regions };
            if regions.is_empty() {
                let problem = Problem::new(format!("tenant `{}` has no region", tenant.name))
                    .at(self.tenants_at.0, self.tenant_key(number, &["name"]));
                problems.push(
                    problem.hint("give it `regions:`, or give them to all tenants at the top of the configuration"),
                );
            }
            for (place, region) in regions.iter().enumerate() {
                match Region::new(region) {
                    Ok(region) => targets.extend(self.resolve_target(stage, number, &region, release, problems)),
                    Err(error) => {
                        let at = if tenant.regions.is_empty() {
                            (CONFIG, self.documents[CONFIG].value(&["regions", &place.to_string()]))
                        } else {
                            (self.tenants_at.0, self.tenant_value(number, &["regions", &place.to_string()]))
                        };
                        problems.push(Problem::new(error.to_string()).at(at.0, at.1));
                    }
                }
            }
        }
        let policy = &self.file.stages[&stage.name].rollout;
        let is_canary: Vec<bool> = targets.iter().map(|resolved| self.is_canary(policy, resolved.tenant)).collect();
        for (resolved, wave) in targets.iter_mut().zip(waves::assign(policy, &is_canary)) {
            resolved.target.wave = wave;
        }
        targets
    }

    /// Tells whether a tenant goes first.
    pub(super) fn is_canary(&self, policy: &schema::Rollout, tenant: usize) -> bool {
        let Some(canary) = &policy.canary else { return false };
        let tenant = &self.tenants[tenant];
        let label = canary.label.as_deref().and_then(|label| label.split_once('='));
        canary.tenants.contains(&tenant.name)
            || label.is_some_and(|(key, value)| tenant.labels.get(key).is_some_and(|text| text.0 == value))
    }

    fn tenant_keys(&self, number: usize, rest: &[&str]) -> Vec<String> {
        let prefix = self.tenants_at.1.iter().map(|key| (*key).to_owned());
        prefix.chain([number.to_string()]).chain(rest.iter().map(|key| (*key).to_owned())).collect()
    }

    fn tenant_value(&self, number: usize, rest: &[&str]) -> std::ops::Range<usize> {
        self.value_at(&(self.tenants_at.0, self.tenant_keys(number, rest)))
    }

    /// Returns the place of a value of a tenant.
    pub(super) fn tenant_place(&self, number: usize, rest: &[&str]) -> Place {
        (self.tenants_at.0, self.tenant_keys(number, rest))
    }

    pub(super) fn tenant_key(&self, number: usize, rest: &[&str]) -> std::ops::Range<usize> {
        let keys = self.tenant_keys(number, rest);
        self.documents[self.tenants_at.0].key(&keys.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Returns the tenants whose accounts are closed, with the account and its state.
    pub fn closed(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.tenants
            .iter()
            .filter_map(|tenant| Some((tenant.name.as_str(), tenant.account.0.as_str(), tenant.closed.as_deref()?)))
    }

    /// Tells whether AWS keeps the list of tenants: it may change between two runs without anybody's doing here.
    pub fn is_kept(&self) -> bool {
        matches!(self.file.tenants, Tenants::Kept(_))
    }

    /// Returns the managed policies that the deployment role has beside its own.
    pub fn deployment_policies(&self) -> &[String] {
        self.file.bootstrap.as_ref().map_or(&[], |bootstrap| &bootstrap.deployment_policies)
    }

    /// Returns the documents that are templates, with their numbers.
    pub fn templates(&self) -> impl Iterator<Item = (usize, &Document)> {
        let others = [CONFIG, self.tenants_at.0];
        self.documents.iter().enumerate().filter(move |(number, _)| !others.contains(number))
    }

    /// Returns the number of the document that the tenants stand in.
    pub(super) fn tenants_document(&self) -> usize {
        self.tenants_at.0
    }

    /// Returns the bytes of the value at a place.
    pub(super) fn value_at(&self, place: &Place) -> std::ops::Range<usize> {
        self.documents[place.0].value(&place.1.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn resolve_target(
        &self,
        stage: &StageConfig,
        number: usize,
        region: &Region,
        release: &Release,
        problems: &mut Vec<Problem>,
    ) -> Option<Resolved> {
        let tenant = &self.tenants[number];
        let before = problems.len();
        let account = AccountId::new(tenant.account.0.clone()).map_err(|error| {
            problems
                .push(Problem::new(error.to_string()).at(self.tenants_at.0, self.tenant_value(number, &["account"])));
        });
        let account = account.ok()?;
        let scope = Scope { project: self, stage: &stage.name, tenant, account: &account, region, release };
        let config = |keys: &[&str]| (CONFIG, keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>());
        let of_tenant = |keys: &[&str]| (self.tenants_at.0, self.tenant_keys(number, keys));

        let stage_file = &self.file.stages[&stage.name];
        let of_region = tenant.region_parameters.get(region.as_str());
        let layers = [
            (config(&["parameters"]), Some(&self.file.parameters)),
            (config(&["stages", &stage.name, "parameters"]), Some(&stage_file.parameters)),
            (of_tenant(&["parameters"]), Some(&tenant.parameters)),
            (of_tenant(&["region-parameters", region.as_str()]), of_region),
        ];
        let (parameters, parameters_at) = scope.merge(&layers, problems);
        let layers = [
            (config(&["tags"]), Some(&self.file.tags)),
            (config(&["stages", &stage.name, "tags"]), Some(&stage_file.tags)),
            (of_tenant(&["tags"]), Some(&tenant.tags)),
        ];
        let (tags, _) = scope.merge(&layers, problems);
        let text = |(name, value): (String, ParameterValue)| Some((name, value.text()?.to_owned()));
        let tags = tags.into_iter().filter_map(text).collect();
        let stack = scope.expand(&self.file.stack, &config(&["stack"]), problems);
        let checks = (0..).zip(&stage_file.verify);
        let checks: Vec<Check> = checks.filter_map(|(place, check)| scope.check(check, place, problems)).collect();
        let alarms = (0..).zip(&stage_file.rollout.alarms);
        let alarms = alarms.filter(|(_, alarm)| alarm.account == schema::AlarmAccount::Tenant);
        let alarms: Vec<Alarm> = alarms
            .map(|(place, alarm)| {
                let place: i32 = place;
                let at = config(&["stages", &stage.name, "rollout", "alarms", &place.to_string(), "name"]);
                Alarm { name: scope.expand(&alarm.name, &at, problems), roll_back: alarm.roll_back }
            })
            .collect();
        let role = |own: &Option<String>, all: &Option<String>, standard: &str| {
            let name = own.as_deref().or(all.as_deref()).unwrap_or(standard);
            if name.starts_with("arn:") {
                name.to_owned()
            } else {
                format!("arn:{}:iam::{account}:role/{name}", region.partition())
            }
        };
        let target = Target {
            id: TargetId { tenant: tenant.name.clone(), region: region.clone() },
            account: account.clone(),
            pin: tenant.pin.as_ref().map(|pin| ReleaseId::from(pin.0.as_str())),
            stack,
            access_role: role(&tenant.roles.access, &self.file.roles.access, "CodePipelineCrossAccountRole"),
            plan_role: (tenant.roles.plan.is_some() || self.file.roles.plan.is_some() || self.file.bootstrap.is_some())
                .then(|| role(&tenant.roles.plan, &self.file.roles.plan, "CodePipelineCrossAccountPlanRole")),
            deployment_role: Some(role(
                &tenant.roles.deployment,
                &self.file.roles.deployment,
                "CloudFormationDeploymentRole",
            )),
            external_id: tenant.roles.external_id.clone().or_else(|| self.file.roles.external_id.clone()),
            parameters,
            tags,
            capabilities: self.file.capabilities.clone(),
            wave: 0,
            checks,
            alarms,
        };
        (problems.len() == before).then_some(Resolved { target, tenant: number, parameters_at })
    }
}

/// Tells whether a tenant is among those that are meant.
fn is_selected(tenant: &Tenant, selection: &Selection) -> bool {
    let named = selection.tenants.is_empty() || selection.tenants.contains(&tenant.name);
    let labelled = |(key, value): &(String, String)| tenant.labels.get(key).is_some_and(|text| &text.0 == value);
    named && selection.labels.iter().all(labelled)
}

/// What variables mean for one target.
struct Scope<'a> {
    project: &'a Project,
    stage: &'a str,
    tenant: &'a Tenant,
    account: &'a AccountId,
    region: &'a Region,
    release: &'a Release,
}

type Layer<'a> = (Place, Option<&'a BTreeMap<String, Text>>);

impl Scope<'_> {
    fn lookup(&self, name: &str) -> Option<String> {
        let value = match name {
            "application" => &self.project.application,
            "stage" => self.stage,
            "tenant" => &self.tenant.name,
            "account" => self.account.as_str(),
            "region" => self.region.as_str(),
            "release" => self.release.id.as_str(),
            "stack" => self.project.cdk_stack.as_ref()?,
            _ => {
                if let Some(label) = name.strip_prefix("labels.") {
                    return self.tenant.labels.get(label).map(|text| text.0.clone());
                }
                if let Some(variable) = name.strip_prefix("environment.") {
                    let value = self.project.environment.0.get(variable).filter(|value| !value.is_empty()).cloned();
                    // Only who releases needs the values; who checks or approves does not.
                    let to_come = self.release.template.sha256 == Digest::of("");
                    return value.or_else(|| to_come.then(|| format!("{{{{resolve:environment:{variable}}}}}")));
                }
                let (artifact, field) = name.strip_prefix("artifacts.")?.rsplit_once('.')?;
                let artifact = self.release.artifact(&self.tenant.name, artifact)?;
                return match field {
                    "bucket" => Some(self.release.bucket.clone()),
                    "key" => Some(artifact.key.clone()),
                    "sha256" => Some(artifact.sha256.to_string()),
                    _ => None,
                };
            }
        };
        Some(value.to_owned())
    }

    fn known(&self) -> Vec<String> {
        let mut names: Vec<String> =
            ["application", "stage", "tenant", "account", "region", "release"].map(str::to_owned).to_vec();
        names.extend(self.project.cdk_stack.is_some().then(|| "stack".to_owned()));
        names.extend(self.tenant.labels.keys().map(|label| format!("labels.{label}")));
        for artifact in self.release.artifacts.keys() {
            names.extend(["bucket", "key", "sha256"].map(|field| format!("artifacts.{artifact}.{field}")));
        }
        names
    }

    fn expand(&self, text: &str, place: &Place, problems: &mut Vec<Problem>) -> String {
        // What comes from the environment is secret, and only parameters are covered.
        let is_parameter = place.1.iter().any(|key| key == "parameters" || key == "region-parameters");
        let lookup = |name: &str| self.lookup(name).filter(|_| is_parameter || !name.starts_with("environment."));
        expand(text, lookup).unwrap_or_else(|bad| {
            let known = self.known();
            let names = || known.iter().map(String::as_str);
            let mut bytes = self.project.value_at(place);
            // Within a plain or quoted value that stands as it is, the variable itself can be pointed at.
            let source = &self.project.documents[place.0].text[bytes.clone()];
            if let Some(found) = source.find(&format!("{{{}", bad.name)) {
                bytes = bytes.start + found..bytes.start + found + bad.bytes.len();
            }
            let label = bad.name.strip_prefix("labels.");
            let message = match label {
                _ if bad.is_open => format!("`{{{}` has no closing brace", bad.name),
                Some(label) => format!("tenant `{}` has no label `{label}`", self.tenant.name),
                None if bad.name == "previous" => "`{previous}` is a parameter's whole value".to_owned(),
                None if bad.name.starts_with("environment.") && !is_parameter => {
                    "values of the environment are secrets, and are for parameters alone".to_owned()
                }
                None if bad.name.starts_with("environment.") => {
                    format!("the environment has no {}", bad.name.trim_start_matches("environment."))
                }
                None => format!("unknown variable `{}`", bad.name),
            };
            let problem = Problem::new(message).at(place.0, bytes);
            if bad.name.starts_with("environment.") && !is_parameter {
                problems.push(problem);
                return String::new();
            }
            if bad.name.starts_with("environment.") {
                problems.push(
                    problem.hint("hand it to this step, as CodeBuild's `env` and GitHub's `env` do with their secrets"),
                );
                return String::new();
            }
            if bad.is_open {
                problems.push(problem.hint("a brace that is meant as such is doubled: {{"));
                return String::new();
            }
            problems.push(match closest(&bad.name, names()) {
                Some(_) => problem.did_you_mean(&bad.name, names()),
                None => problem.hint(format!("known here: {}", known.join(", "))),
            });
            String::new()
        })
    }

    /// Lays maps over each other, later over earlier, and replaces the variables in what is left.
    fn merge(
        &self,
        layers: &[Layer<'_>],
        problems: &mut Vec<Problem>,
    ) -> (BTreeMap<String, ParameterValue>, BTreeMap<String, Place>) {
        let mut found: BTreeMap<&String, (&Text, Place)> = BTreeMap::new();
        for (place, map) in layers {
            for (name, value) in map.iter().flat_map(|map| map.iter()) {
                let mut keys = place.1.clone();
                keys.push(name.clone());
                found.insert(name, (value, (place.0, keys)));
            }
        }
        let mut values = BTreeMap::new();
        let mut places = BTreeMap::new();
        for (name, (value, place)) in found {
            let value = match value.0.trim() {
                "{previous}" => ParameterValue::Previous,
                _ => ParameterValue::Text(self.expand(&value.0, &place, problems)),
            };
            values.insert(name.clone(), value);
            places.insert(name.clone(), place);
        }
        (values, places)
    }

    fn check(&self, check: &schema::Check, number: usize, problems: &mut Vec<Problem>) -> Option<Check> {
        let keys = |rest: &str| {
            (CONFIG, ["stages", self.stage, "verify", &number.to_string(), rest].map(str::to_owned).to_vec())
        };
        match check {
            schema::Check {
                invoke: Some(function),
                fetch: None,
                path: None,
                status: None,
                timeout: None,
                payload,
                expect,
            } => Some(Check::Invoke {
                function: self.expand(function, &keys("invoke"), problems),
                payload: payload.clone().unwrap_or_else(|| serde_json::json!({})),
                expect: expect.clone().unwrap_or_else(|| serde_json::json!({})),
            }),
            schema::Check { fetch: Some(output), invoke: None, payload: None, expect: None, path, status, timeout } => {
                Some(Check::Fetch {
                    output: self.expand(output, &keys("fetch"), problems),
                    path: path.clone().unwrap_or_default(),
                    status: status.unwrap_or(200),
                    timeout: timeout.map_or(std::time::Duration::from_secs(10), |span| span.0),
                })
            }
            _ => {
                let place = (CONFIG, ["stages", self.stage, "verify", &number.to_string()].map(str::to_owned).to_vec());
                let problem = Problem::new(
                    "a check is either `invoke` (with `payload` and `expect`) or `fetch` (with `path`, `status` and `timeout`)",
                );
                problems.push(problem.at(CONFIG, self.project.value_at(&place)));
                None
            }
        }
    }
}
