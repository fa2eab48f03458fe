//! Where the programs under test are: corestone built from this tree, etcd where there is one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary `corestone` of this tree, built once a test process in the profile that the test
/// itself was built in. `CORESTONE_TEST_BINARY` names another one.
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
    let profile_directory = test.ancestors().nth(2).and_then(Path::file_name);
    let profile = match profile_directory.and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", "server", "--bin", "corestone", "--profile", profile])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo can be started");
    assert!(
        output.status.success(),
        "corestone does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let path = executable(&messages).expect("cargo names the binary that it built");
    assert!(path.is_file(), "{} is where cargo put it", path.display());
    path
}

/// The path of the one executable among cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let (_, rest) = line.split_once(r#""executable":""#)?;
        let (path, _) = rest.split_once('"')?;
        Some(PathBuf::from(path))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_the_message_with_an_executable() {
        let messages = r#"{"reason":"compiler-artifact","executable":null,"fresh":true}
            {"reason":"compiler-artifact","executable":"/t/debug/corestone","fresh":true}
            {"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some(PathBuf::from("/t/debug/corestone")));
        assert_eq!(executable(""), None);
    }
}
