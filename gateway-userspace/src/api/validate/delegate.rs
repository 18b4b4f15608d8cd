//! VirtualServices that share their rules: a root's rule names a delegate, and a delegate has no hosts.

use crate::api::path::FieldPath;
use crate::api::virtual_service::{HttpRoute, VirtualService};

use super::Findings;

/// A document without hosts is a delegate; what only a root may have is an error there.
pub(super) fn check_delegate(found: &mut Findings<'_>, field: &FieldPath, spec: &VirtualService) {
    for (name, what, set) in [
        ("gateways", "gateways", !spec.gateways.is_empty()),
        ("tls", "tls route", !spec.tls.is_empty()),
        ("tcp", "tcp route", !spec.tcp.is_empty()),
    ] {
        if set {
            let message = format!("delegate virtual service must have no {what} specified");
            let help = "a VirtualService without `hosts` holds http rules for others to delegate to; give it `hosts` if \
                        gateways are to serve it";
            found.error_with_help(&field.field(name), message, help);
        }
    }
}

/// A rule of a root says nothing of where requests go: its delegate does.
pub(super) fn check_root_rule(found: &mut Findings<'_>, field: &FieldPath, rule: &HttpRoute) {
    for (name, set) in [("redirect", rule.redirect.is_some()), ("route", !rule.route.is_empty())] {
        if set {
            let message = format!("root HTTP route {} must not specify {name}", rule.name);
            found.error(&field.field(name), message);
        }
    }
}
