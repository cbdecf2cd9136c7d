//! Large objects, which go up in parts.

use std::sync::Mutex;

use tenantry::aws::{ArtifactStore, StoreSettings, Tooling};
use tenantry::domain::{AccountId, Digest, Region};
use tenantry::ports::Store as _;

use bytes::Bytes;

use crate::bed::Bed;

/// Size of a part: the least that S3 takes.
const PART: usize = 5 << 20;

/// The library's own store against the emulator; the process's environment is this test's alone, since every test
/// is a process. Returns a store that sends everything above a mebibyte in parts.
async fn store(bed: &Bed) -> ArtifactStore {
    let region = Region::new("eu-west-1").unwrap();
    let tooling = Tooling::connect(&region, None).await.unwrap();
    let settings = StoreSettings {
        bucket: bed.fact("bucket").to_owned(),
        owner: AccountId::new("111111111111").unwrap(),
        kms_key: bed.fact("kms_key").to_owned(),
        region,
        endpoint: Some(bed.fact("endpoint").to_owned()),
        multipart_from: 1 << 20,
        part: PART,
    };
    ArtifactStore::new(&tooling, settings)
}

/// Runs a test of this file as a process of its own, with the emulator's credentials. Returns the emulator where it
/// was run now, and none within that process.
fn apart(name: &str) -> Option<Bed> {
    if std::env::var("TENANTRY_TEST_BED").is_ok() {
        return None;
    }
    let bed = Bed::start();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("store::{name}"), "--nocapture"])
        .envs(bed.variables())
        .env("TENANTRY_TEST_BED", bed.facts.to_string())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    Some(bed)
}

/// Returns how many requests to S3 with a checksum there were: the parts.
fn parts_sent(bed: &Bed) -> usize {
    let puts = bed.requests().into_iter().filter(|request| request["method"] == "PUT" && request["service"] == "s3");
    puts.filter(|request| request["headers"]["x-amz-checksum-sha256"].is_string()).count()
}

fn known() -> Bed {
    Bed::known(&std::env::var("TENANTRY_TEST_BED").unwrap())
}

/// Runs as a process of its own with the emulator's credentials, as the library takes them from the environment.
#[test]
fn large_objects_go_up_in_parts_and_only_once() {
    if let Some(bed) = apart("large_objects_go_up_in_parts_and_only_once") {
        assert_eq!(parts_sent(&bed), 2, "two parts, once");
        return;
    }
    let bed = known();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = store(&bed).await;
        let bytes: Bytes = (0..6_u32 << 18).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into();
        let (key, digest) = ("CrossAccountPipeline/shared/large.zip", Digest::of(&bytes));
        let told = Mutex::new(Vec::new());
        let tell = |sent| told.lock().unwrap().push(sent);
        assert!(store.put_content(key, bytes.clone(), digest, &tell).await.unwrap());
        // Two at a time: either may be first.
        assert_eq!(told.lock().unwrap().len(), 3);
        assert_eq!(told.lock().unwrap()[1..], [6 << 20, 6 << 20]);
        assert!(!store.put_content(key, bytes.clone(), digest, &tell).await.unwrap(), "it is there already");
        assert_eq!(Digest::of(store.get(key).await.unwrap().unwrap().0), digest);
    });
}

#[test]
fn an_upload_goes_on_where_another_has_ended() {
    if let Some(bed) = apart("an_upload_goes_on_where_another_has_ended") {
        assert_eq!(parts_sent(&bed), 5, "three by the first, of which one was wrong, and two by the second");
        return;
    }
    let bed = known();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let bytes: Bytes = (0..18_u32 << 18).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into();
        let (key, digest) = ("CrossAccountPipeline/shared/unfinished.zip", Digest::of(&bytes));
        // A process that ended in the middle: parts 1 and 3 are there, and part 2 has other bytes.
        let endpoint = bed.fact("endpoint");
        let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .region("eu-west-1")
            .endpoint_url(endpoint)
            .load()
            .await;
        let config = aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build();
        let s3 = aws_sdk_s3::Client::from_conf(config);
        let upload = s3.create_multipart_upload().bucket(bed.fact("bucket")).key(key);
        let upload = upload.server_side_encryption("aws:kms".into()).ssekms_key_id(bed.fact("kms_key"));
        let upload = upload.checksum_algorithm("SHA256".into()).checksum_type("COMPOSITE".into());
        let upload = upload.send().await.unwrap();
        for (number, start) in [(1, 0), (2, 7), (3, 2 * PART)] {
            let body = bytes.slice(start..start + PART);
            let checksum =
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, Digest::of(&body).as_bytes());
            let part = s3.upload_part().bucket(bed.fact("bucket")).key(key).part_number(number);
            let part = part.upload_id(upload.upload_id().unwrap()).checksum_sha256(checksum);
            part.body(body.into()).send().await.unwrap();
        }
        let store = store(&bed).await;
        let told = Mutex::new(Vec::new());
        let tell = |sent| told.lock().unwrap().push(sent);
        assert!(store.put_content(key, bytes.clone(), digest, &tell).await.unwrap());
        assert_eq!(told.lock().unwrap()[0], 10 << 20, "what is there already counts");
        assert_eq!(Digest::of(store.get(key).await.unwrap().unwrap().0), digest);
    });
}
