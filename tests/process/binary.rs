//! Where the programs under test are: corestone built from this tree, etcd where there is one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary `corestone` of this tree, built once a test process in the profile and the target
/// directory that the test itself was built in. `CORESTONE_TEST_BINARY` names another one.
///
/// # Panics
/// When the build fails: its output says why.
pub fn corestone_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("CORESTONE_TEST_BINARY") {
        Some(path) => PathBuf::from(path),
        None => build_corestone(),
    })
}

fn build_corestone() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    // <target>/<profile>/deps/<test>
    let profile_directory = test.ancestors().nth(2).expect("cargo puts tests in deps/");
    let target_directory = profile_directory.parent().expect("profiles are in the target folder");
    let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", "server", "--bin", "corestone", "--profile", profile])
        .arg("--target-dir")
        .arg(target_directory)
        .current_dir(workspace)
        .output()
        .expect("cargo can be started");
    assert!(
        output.status.success(),
        "corestone does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let binary = profile_directory.join("corestone");
    assert!(binary.is_file(), "{} is where cargo puts it", binary.display());
    binary
}

/// The real etcd to compare with: `CORESTONE_TEST_ETCD`, or `etcd` on the path.
pub fn etcd_binary() -> Option<PathBuf> {
    match std::env::var_os("CORESTONE_TEST_ETCD") {
        Some(path) => Some(PathBuf::from(path)),
        None => find_on_path("etcd"),
    }
}

/// The first file of this name in the folders of `PATH`.
pub fn find_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
