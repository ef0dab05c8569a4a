//! Kubeshark's names for what items do not have: other protocols, tracking of flows, labels. They always have their default.

use super::names::Field as F;
use super::names::Kind::{self, Bool, Int, List, Map, Text};
use super::names::{Name, kfl2};

const fn never<const N: usize>(names: [&'static str; N], kind: Kind) -> [Name; N] {
    let mut made = [const { kfl2("", Bool, F::Never, "") }; N];
    let mut at = 0;
    while at < N {
        made[at] = kfl2(names[at], kind, F::Never, "");
        at += 1;
    }
    made
}

/// KFL2's names for what items do not have, by type.
pub(super) static NEVER: [&[Name]; 4] = [&NEVER_BOOL, &NEVER_INT, &NEVER_TEXT, &NEVER_OTHER];

#[rustfmt::skip]
static NEVER_BOOL: [Name; 42] = never([
    "dns", "redis", "kafka", "amqp", "ldap", "ws", "gql", "gqlv1", "gqlv2", "udp", "sctp", "icmp", "grpc", "mongodb",
    "mysql", "postgresql", "diameter", "radius", "conn", "flow", "tcp_conn", "tcp_flow", "udp_conn", "udp_flow",
    "has_pcap", "dns_request", "dns_response", "ws_request", "ws_response", "kafka_request", "kafka_response",
    "amqp_request", "amqp_response", "ldap_request", "ldap_response", "radius_request", "radius_response",
    "diameter_request", "diameter_response", "mongodb_success", "mysql_success", "postgresql_success",
], Bool);

#[rustfmt::skip]
static NEVER_INT: [Name; 64] = never([
    "conn_id", "flow_id", "capture_source_code", "dns_request_length", "dns_response_length", "dns_total_size",
    "tls_request_size", "tls_response_size", "tls_total_size", "udp_length", "udp_checksum", "sctp_checksum",
    "sctp_length", "icmp_version", "icmp_length", "ws_request_payload_length", "ws_response_payload_length",
    "redis_request_size", "redis_response_size", "redis_total_size", "kafka_api_key", "kafka_size",
    "kafka_request_size", "kafka_response_size", "amqp_request_length", "amqp_response_length", "amqp_total_size",
    "ldap_request_length", "ldap_response_length", "ldap_total_size", "radius_code", "radius_request_length",
    "radius_response_length", "radius_total_size", "diameter_request_length", "diameter_response_length",
    "diameter_total_size", "mongodb_request_size", "mongodb_response_size", "mongodb_total_size",
    "mongodb_error_code", "mysql_statement_id", "mysql_request_size", "mysql_response_size", "mysql_total_size",
    "mysql_error_code", "postgresql_request_size", "postgresql_response_size", "postgresql_total_size",
    "grpc_status", "conn_local_pkts", "conn_local_bytes", "conn_remote_pkts", "conn_remote_bytes", "conn_group_id",
    "flow_local_pkts", "flow_local_bytes", "flow_remote_pkts", "flow_remote_bytes", "flow_local_pps",
    "flow_local_bps", "flow_remote_pps", "flow_remote_bps", "flow_group_id",
], Int);

#[rustfmt::skip]
static NEVER_TEXT: [Name; 45] = never([
    "node_id", "tls_summary", "tls_info", "tcp_method", "tcp_payload", "tcp_error_type", "tcp_error_message",
    "udp_payload", "sctp_chunk_type", "icmp_type", "ws_opcode", "ws_request_payload_data", "redis_type",
    "redis_command", "redis_key", "kafka_api_key_name", "kafka_client_id", "kafka_request_summary", "amqp_method",
    "amqp_summary", "ldap_type", "ldap_summary", "radius_code_name", "radius_request_authenticator",
    "diameter_method", "diameter_summary", "mongodb_command", "mongodb_database", "mongodb_collection",
    "mongodb_opcode", "mongodb_error_message", "mongodb_error_code_name", "mysql_command", "mysql_query",
    "mysql_database", "mysql_error_message", "postgresql_command", "postgresql_query", "postgresql_database",
    "postgresql_user", "postgresql_error_code", "postgresql_error_message", "grpc_method", "conn_state", "flow_state",
], Text);

static NEVER_OTHER: [Name; 17] = [
    kfl2("dns_questions", List, F::Never, ""),
    kfl2("dns_answers", List, F::Never, ""),
    kfl2("dns_question_types", List, F::Never, ""),
    kfl2("dns_resolutions", List, F::Never, ""),
    kfl2("conn_l7_detected", List, F::Never, ""),
    kfl2("flow_l7_detected", List, F::Never, ""),
    kfl2("local_labels", Map, F::Never, ""),
    kfl2("local_annotations", Map, F::Never, ""),
    kfl2("remote_labels", Map, F::Never, ""),
    kfl2("remote_annotations", Map, F::Never, ""),
    kfl2("local_node_name", Text, F::Never, ""),
    kfl2("remote_node_name", Text, F::Never, ""),
    kfl2("local_resolution_status", Text, F::Never, ""),
    kfl2("remote_resolution_status", Text, F::Never, ""),
    kfl2("src.dns", Text, F::Never, ""),
    kfl2("dst.dns", Text, F::Never, ""),
    kfl2("capture.backend", Text, F::Backend, "capture.source"),
];
