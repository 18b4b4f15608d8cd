//! Documents as written: what each kind that a gateway reads says, where it says
//! it, and what is wrong with it by itself. What documents mean together is `translate`'s matter.

pub mod annotation;
pub mod by_name;
pub mod code;
pub mod credential_name;
pub mod decode;
pub mod destination_rule;
pub mod diagnostic;
pub mod digest;
pub mod document;
pub mod duration;
pub mod gateway;
pub mod header_text;
pub mod health_check;
mod json;
pub mod kubernetes;
pub mod mesh_config;
pub mod object;
pub mod path;
pub mod places;
pub mod selector;
pub mod service_entry;
pub mod split;
pub mod telemetry;
pub mod timestamp;
pub mod validate;
pub mod virtual_service;
pub mod workload;
pub mod yaml;

pub use annotation::GatewayAnnotations;
pub use by_name::ByName;
pub use code::Code;
pub use credential_name::CredentialName;
pub use destination_rule::DestinationRule;
pub use diagnostic::{Diagnostic, Position, Related, Severity, render};
pub use digest::{Digest, Fingerprint};
pub use document::{Reading, read_document, read_shared, read_tree};
pub use gateway::Gateway;
pub use kubernetes::{ConfigMap, EndpointSlice, Namespace, Secret, Service};
pub use mesh_config::MeshConfig;
pub use object::{Metadata, Object, ObjectRef, Objects, Source, Sourced};
pub use path::FieldPath;
pub use service_entry::{ServiceEntry, WorkloadEntry};
pub use split::{Chunk, cut, split, without_mark};
pub use telemetry::Telemetry;
pub use virtual_service::VirtualService;
