//! Large objects, which go up in parts.

use std::sync::Mutex;

use tenantry::aws::{ArtifactStore, StoreSettings, Tooling};
use tenantry::domain::{AccountId, Digest, Region};
use tenantry::ports::Store as _;

use crate::bed::Bed;

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
    };
    ArtifactStore::new(&tooling, settings)
}

/// Runs as a process of its own with the emulator's credentials, as the library takes them from the environment.
#[test]
fn large_objects_go_up_in_parts_and_only_once() {
    let Ok(facts) = std::env::var("TENANTRY_TEST_BED") else {
        let bed = Bed::start();
        let this = std::env::current_exe().unwrap();
        let output = std::process::Command::new(this)
            .args(["--exact", "store::large_objects_go_up_in_parts_and_only_once", "--nocapture"])
            .envs(bed.variables())
            .env("TENANTRY_TEST_BED", bed.facts.to_string())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let parts =
            bed.requests().into_iter().filter(|request| request["method"] == "PUT" && request["service"] == "s3");
        assert_eq!(
            parts.filter(|request| request["headers"]["x-amz-checksum-sha256"].is_string()).count(),
            2,
            "two parts, once"
        );
        return;
    };
    let bed = Bed::known(&facts);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = store(&bed).await;
        let bytes: Vec<u8> = (0..20_u32 << 18).flat_map(u32::to_le_bytes).collect();
        let (key, digest) = ("CrossAccountPipeline/shared/large.zip", Digest::of(&bytes));
        let told = Mutex::new(Vec::new());
        let tell = |sent| told.lock().unwrap().push(sent);
        assert!(store.put_content(key, bytes.clone(), digest, &tell).await.unwrap());
        assert_eq!(*told.lock().unwrap(), [16 << 20, 20 << 20, 20 << 20]);
        assert!(!store.put_content(key, bytes.clone(), digest, &tell).await.unwrap(), "it is there already");
        assert_eq!(Digest::of(store.get(key).await.unwrap().unwrap().0), digest);
    });
}
