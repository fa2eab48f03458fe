//! Compiles the etcd services' `.proto` files into a tonic client: protox reads them, so no protoc
//! is needed.

use std::path::Path;

fn main() {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../net/proto");
    println!("cargo::rerun-if-changed={}", protos.display());
    let files = ["kv.proto", "auth.proto", "rpc.proto"];
    let descriptors = protox::compile(files, [protos]).expect("the .proto files are well formed");
    tonic_prost_build::configure()
        .build_server(false)
        .bytes(".")
        .compile_fds(descriptors)
        .expect("the generator accepts the descriptors");
}
