//! Server reflection: what tools such as grpcurl need to call the services without any .proto file.

use proto::admin::v1::admin_service_server::SERVICE_NAME as ADMIN_SERVICE;
use proto::kv::v1::kv_service_server::SERVICE_NAME as KV_SERVICE;
use proto::raft::v1::raft_service_server::SERVICE_NAME as RAFT_SERVICE;
use tonic::service::Routes;
use tonic_health::pb::health_server::SERVICE_NAME as HEALTH_SERVICE;
use tonic_reflection::server::Builder;

/// Adds reflection in both versions: tools ask for v1 first, older ones know only v1alpha.
pub(super) fn add_to(routes: Routes, serves_peers: bool) -> Routes {
    // Each version has a builder of its own, which it consumes.
    let v1 = builder(serves_peers).with_service_name("grpc.reflection.v1.ServerReflection").build_v1();
    let v1alpha = builder(serves_peers).with_service_name("grpc.reflection.v1alpha.ServerReflection").build_v1alpha();
    routes.add_service(v1.expect(BUILT_IN)).add_service(v1alpha.expect(BUILT_IN))
}

const BUILT_IN: &str = "the descriptors were compiled into this program";

fn builder(serves_peers: bool) -> Builder<'static> {
    let builder = Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // With these a tool can print the details of an error.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(KV_SERVICE)
        .with_service_name(ADMIN_SERVICE)
        .with_service_name(HEALTH_SERVICE);
    if serves_peers { builder.with_service_name(RAFT_SERVICE) } else { builder }
}
