//! Generates the message types of `net/src/etcd/proto/` from `net/proto/*.proto`, and proves that
//! what is committed is what the generator makes, so that the two never drift apart.
//!
//! After a change of a `.proto` file: `UPDATE=1 cargo test -p tests --test proto_generated`.

use std::path::{Path, PathBuf};

const PROTO_FILES: [&str; 6] =
    ["kv.proto", "auth.proto", "rpc.proto", "v3election.proto", "v3lock.proto", "health.proto"];

/// Package of a `.proto` file, as the generator names its output, and the committed file.
const GENERATED: [(&str, &str); 6] = [
    ("mvccpb.rs", "mvccpb.rs"),
    ("authpb.rs", "authpb.rs"),
    ("etcdserverpb.rs", "etcdserverpb.rs"),
    ("v3electionpb.rs", "v3electionpb.rs"),
    ("v3lockpb.rs", "v3lockpb.rs"),
    ("grpc.health.v1.rs", "health.rs"),
];

fn net_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../net")
}

/// The generator spells `peerURLs` as `peer_ur_ls`; everybody else says `peer_urls`.
fn readable(code: &str) -> String {
    code.replace("peer_ur_ls", "peer_urls").replace("client_ur_ls", "client_urls")
}

fn generate(out: &Path) {
    let descriptors = protox::compile(PROTO_FILES, [net_directory().join("proto")])
        .expect("the .proto files are well formed");
    prost_build::Config::new()
        .out_dir(out)
        .bytes(["."])
        .btree_map(["."])
        .disable_comments(["."])
        .compile_fds(descriptors)
        .expect("the generator accepts the descriptors");
}

#[test]
fn committed_types_are_the_generated_ones() {
    let out = tempfile::tempdir().unwrap();
    generate(out.path());
    let update = std::env::var_os("UPDATE").is_some();
    for (generated, committed) in GENERATED {
        let code = readable(&std::fs::read_to_string(out.path().join(generated)).unwrap());
        let place = net_directory().join("src/etcd/proto").join(committed);
        if update {
            std::fs::write(&place, &code).unwrap();
        }
        let there = std::fs::read_to_string(&place).unwrap();
        assert!(
            there == code,
            "{committed} differs from what net/proto gives; see the file's head"
        );
    }
}
