//! What packaging costs, side by side in one run: this binary, the AWS CLI, `zip -r -6`, and the bare work that cannot be
//! spared (deflating all bytes on all cores; reading and hashing them).
//!
//! The tree is the AWS CLI's own installation: some 10,000 files from a registry, descriptions of services in JSON, Python,
//! and small texts. Both programs upload to the fleet server of the tests, over HTTP on this machine.
//!
//! `make bench-package`; TENANTRY names the binary, AWS_CLI the `aws` program in its virtual environment.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "its result")]
#![allow(clippy::cast_precision_loss, reason = "ratios are rounded anyway")]

#[path = "../tests/fleet/mod.rs"]
mod fleet;
mod measure;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flate2::{Compress, Compression, FlushCompress};
use fleet::{Fleet, KMS_KEY, Weather};
use libdeflater::{CompressionLvl, Compressor};
use measure::{Cost, run};
use sha2::{Digest as _, Sha256};
use tenantry::package::Packaging;

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Rounds of which the medians count.
const ROUNDS: usize = 9;

/// What a run has cost, and how many bytes came of it.
#[derive(Clone, Copy)]
struct Result {
    wall: Duration,
    memory: u64,
    size: usize,
}

/// What is compared.
#[derive(Default)]
struct Contest<'a>(Vec<(String, Box<dyn FnMut() -> Result + 'a>)>);

impl<'a> Contest<'a> {
    fn with(mut self, name: impl Into<String>, run: impl FnMut() -> Result + 'a) -> Self {
        self.0.push((name.into(), Box::new(run)));
        self
    }

    /// Runs each once a round, every other round in the reverse order, so that what else the machine does hits all of them
    /// alike. Prints the runs of median wall time, and the medians of what each takes of the first in the same round.
    /// Returns the wall times in seconds, round by round.
    fn hold(mut self) -> Vec<Vec<f64>> {
        let mut costs: Vec<Vec<Result>> = vec![Vec::new(); self.0.len()];
        for round in 0..ROUNDS {
            let mut all: Vec<_> = self.0.iter_mut().zip(&mut costs).collect();
            if round % 2 == 1 {
                all.reverse();
            }
            for ((_, run), costs) in all {
                costs.push(run());
            }
        }
        println!("\n| what | wall | wall / first row | peak memory | result |\n|---|---|---|---|---|");
        let walls: Vec<Vec<f64>> =
            costs.iter().map(|costs| costs.iter().map(|cost| cost.wall.as_secs_f64()).collect()).collect();
        for (((name, _), mut costs), walls_of_it) in self.0.into_iter().zip(costs).zip(&walls) {
            let [_, ratio, _] = ratios(walls_of_it, &walls[0]);
            costs.sort_by_key(|cost| cost.wall);
            let cost = costs[ROUNDS / 2];
            let memory = if cost.memory == 0 { "-".to_owned() } else { format!("{:.0} MB", cost.memory as f64 / 1e6) };
            let (wall, size) = (cost.wall.as_secs_f64(), cost.size as f64 / 1e6);
            println!("| {name} | {wall:.2} s | {ratio:.2} | {memory} | {size:.2} MB |");
        }
        walls
    }
}

/// Returns the least, the median and the greatest of the ratios of the same rounds.
fn ratios(one: &[f64], other: &[f64]) -> [f64; 3] {
    let mut ratios: Vec<f64> = one.iter().zip(other).map(|(one, other)| one / other).collect();
    ratios.sort_by(f64::total_cmp);
    [ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]]
}

fn process(command: Command, size: impl FnOnce() -> usize) -> Result {
    let Cost { wall, memory, .. } = run(command);
    Result { wall, memory, size: size() }
}

fn here(work: impl FnOnce() -> usize) -> Result {
    let begun = Instant::now();
    let size = work();
    Result { wall: begun.elapsed(), memory: 0, size }
}

fn threads() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

/// Does a work for each item on all cores, and returns the sum.
fn on_all_cores<T: Sync, W>(
    items: &[T],
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, &T) -> usize + Sync,
) -> usize {
    let (next, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                let mut worker = worker();
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    sum.fetch_add(work(&mut worker, item), Ordering::Relaxed);
                }
            });
        }
    });
    sum.into_inner()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(folder)
        .sort_by_file_name()
        .into_iter()
        .map(std::result::Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .collect()
}

/// A project with one function of which `code` is the code.
fn project(folder: &Path, code: &str) {
    let template = format!(
        "Resources:\n  F:\n    Type: AWS::Lambda::Function\n    Properties:\n      Code: {code}\n      Role: role\n"
    );
    let config = format!(
        "application: app\ntemplate: template.yaml\nstore: {{ bucket: bucket, kms-key: \"{KMS_KEY}\" }}\n\
         regions: [eu-west-1]\nstages:\n  prod: {{}}\ntenants:\n  - {{ name: t, account: \"333333333333\" }}\n"
    );
    fs::write(folder.join("template.yaml"), template).unwrap();
    fs::write(folder.join("tenantry.yaml"), config).unwrap();
}

fn tenantry(folder: &Path, fleet: &Fleet, cache: Option<&Path>) -> Result {
    let mut command = Command::new(std::env::var("TENANTRY").unwrap());
    command.args(["package", "--log-format", "plain"]).current_dir(folder).env_clear().envs(fleet.variables());
    if let Some(cache) = cache {
        command.arg("--cache").arg(cache);
    }
    process(command, || fleet.largest_object())
}

fn aws(folder: &Path, fleet: &Fleet) -> Result {
    let mut command = Command::new(std::env::var("AWS_CLI").unwrap());
    command.args(["cloudformation", "package", "--template-file", "template.yaml", "--s3-bucket", "bucket"]);
    command.args(["--output-template-file", "/dev/null"]).current_dir(folder).envs(fleet.variables());
    command.env("AWS_DEFAULT_REGION", "eu-west-1");
    process(command, || fleet.largest_object())
}

fn zip(folder: &Path, what: &str) -> Result {
    let target = folder.join("zipped.zip");
    let _ = fs::remove_file(&target);
    let mut command = Command::new("zip");
    command.args(["-q", "-r", "-6", "zipped.zip", what]).current_dir(folder);
    let cost = process(command, || usize::try_from(fs::metadata(&target).unwrap().len()).unwrap());
    fs::remove_file(&target).unwrap();
    cost
}

fn main() {
    let aws_cli = PathBuf::from(std::env::var("AWS_CLI").unwrap());
    let library = fs::read_dir(aws_cli.ancestors().nth(2).unwrap().join("lib")).unwrap().next().unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    let copied = Command::new("cp").arg("-rL").arg(library.path().join("site-packages")).arg(&tree).status().unwrap();
    assert!(copied.success());
    let all = files(&tree);
    let bytes: Vec<Vec<u8>> = all.iter().map(|path| fs::read(path).unwrap()).collect();
    let total: usize = bytes.iter().map(Vec::len).sum();
    println!("{} files, {:.0} MB, {} cores", all.len(), total as f64 / 1e6, threads());
    project(folder.path(), "tree");
    whole(folder.path(), &tree, &bytes);
    again(folder.path(), &all);
    one_file(&bytes.concat());
}

fn fresh() -> Fleet {
    Fleet::start(Weather::default())
}

/// The tree as it is.
fn whole(folder: &Path, tree: &Path, bytes: &[Vec<u8>]) {
    let deflate = || {
        let levels = || [6, 7].map(|level| Compressor::new(CompressionLvl::new(level).unwrap()));
        on_all_cores(bytes, levels, |[most, middle], bytes| {
            let compressor = if (128 << 10..512 << 10).contains(&bytes.len()) { middle } else { most };
            let mut out = vec![0; compressor.deflate_compress_bound(bytes.len())];
            compressor.deflate_compress(bytes, &mut out).unwrap()
        })
    };
    let walls = Contest::default()
        .with("tenantry package", || tenantry(folder, &fresh(), None))
        .with("aws cloudformation package", || aws(folder, &fresh()))
        .with("zip -r -6 (no upload)", || zip(folder, "tree"))
        .with("nothing but deflate, on all cores", || here(deflate))
        .with("the zip alone, within a process", || {
            here(|| Packaging::default().package(tree, &[], &[]).unwrap().bytes.len())
        })
        .hold();
    let [least, median, greatest] = ratios(&walls[4], &walls[3]);
    println!(
        "\nThe zip alone takes {median:.2} of the time of deflating alone ({least:.2} to {greatest:.2} in the rounds)."
    );
}

/// A second run with nothing changed: ours, the AWS CLI's, and what cannot be spared.
fn again(folder: &Path, all: &[PathBuf]) {
    let (cache, ours, theirs) = (folder.join("cache"), fresh(), fresh());
    tenantry(folder, &ours, Some(&cache));
    aws(folder, &theirs);
    let hash = || {
        assert_eq!(files(&folder.join("tree")).len(), all.len());
        on_all_cores(all, Vec::new, |buffer: &mut Vec<u8>, path| {
            buffer.clear();
            std::io::Read::read_to_end(&mut fs::File::open(path).unwrap(), buffer).unwrap();
            usize::from(Sha256::digest(&buffer)[0])
        });
        0
    };
    Contest::default()
        .with("tenantry package --cache, nothing changed", || tenantry(folder, &ours, Some(&cache)))
        .with("aws cloudformation package, nothing changed", || aws(folder, &theirs))
        .with("nothing but listing, reading and hashing", || here(hash))
        .hold();
}

/// All of it as one file.
fn one_file(binary: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("one")).unwrap();
    fs::write(folder.path().join("one/binary"), binary).unwrap();
    project(folder.path(), "one");
    let blocks: Vec<&[u8]> = binary.chunks(1 << 20).collect();
    let pigz = || {
        on_all_cores(
            &blocks,
            || (),
            |(), block| {
                let mut out = Vec::with_capacity(block.len() + 1024);
                let mut stream = Compress::new(Compression::new(6), false);
                stream.compress_vec(block, &mut out, FlushCompress::Finish).unwrap();
                out.len()
            },
        )
    };
    let name = format!("tenantry package of one file of {:.0} MB", binary.len() as f64 / 1e6);
    Contest::default()
        .with(name, || tenantry(folder.path(), &fresh(), None))
        .with("nothing but blocks of 1 MiB by zlib-rs, on all cores", || here(pigz))
        .with("zip -r -6 (no upload)", || zip(folder.path(), "one"))
        .hold();
}
