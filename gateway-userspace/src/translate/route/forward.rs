//! Destinations, and what becomes of a request on its way to them.

use regex::Regex;

use crate::api::FieldPath;
use crate::api::header_text::Direction;
use crate::api::virtual_service::HttpRewrite;
use crate::model::{Forward, HeaderOps, Rewrite};
use crate::notation::re2;

use super::headers::operations;
use super::{Compiler, non_empty, retry};
use crate::translate::destination;
use crate::translate::report::Report;

impl Compiler<'_> {
    pub(super) fn forward(&self, report: &mut Report) -> Option<Forward> {
        let route = &self.rule.route;
        let field = FieldPath::spec().field("http").index(self.index).field("route");
        let weighted = route.iter().map(|to| (to.destination.as_ref(), to.weight)).collect();
        let resolved =
            destination::resolve(self.context, self.bound, &field, &weighted, self.server.number, report);
        let own_headers = |at: usize| match route.get(at).and_then(|to| to.headers.as_deref()) {
            Some(headers) => (
                operations(&headers.request, Direction::Request),
                operations(&headers.response, Direction::Response),
            ),
            None => (HeaderOps::default(), HeaderOps::default()),
        };
        let several = route.len() > 1;
        let destination_headers: Vec<_> = resolved.iter().map(|(at, _)| own_headers(*at)).collect();
        let destinations: Vec<_> = resolved.into_iter().map(|(_, cluster)| cluster).collect();
        if destinations.is_empty() {
            return None;
        }
        Some(Forward {
            destinations,
            destination_headers: if several { destination_headers } else { Vec::new() },
            rewrite: self.rule.rewrite.as_deref().and_then(rewrite).map(Box::new),
            timeout: self.rule.timeout.map(|timeout| timeout.0),
            retries: retry::policy(
                self.rule.retries.as_deref().or(self.context.mesh.default_http_retry_policy.as_ref()),
            ),
            mirrors: self.mirrors(report),
        })
    }
}

fn rewrite(rewrite: &HttpRewrite) -> Option<Rewrite> {
    let regex = match &rewrite.uri_regex_rewrite {
        Some(regex) => {
            Some((Regex::new(&re2::translated(&regex.pattern)).ok()?, substitution(&regex.rewrite)))
        }
        None => None,
    };
    Some(Rewrite { uri: non_empty(&rewrite.uri), regex, authority: non_empty(&rewrite.authority) })
}

/// RE2's `\1` in the regex crate's notation, in which `$` means something.
fn substitution(rewrite: &str) -> String {
    let mut out = String::with_capacity(rewrite.len());
    let mut characters = rewrite.chars();
    while let Some(c) = characters.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match characters.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    out.push_str("${");
                    out.push(digit);
                    out.push('}');
                }
                Some(other) => out.push(other),
                None => {}
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutions_are_in_the_regex_crates_notation() {
        let regex = Regex::new("^/([^/]*)/(.*)$").unwrap();
        for (written, path, want) in
            [(r"/\2/\1", "/a/b", "/b/a"), (r"/$1-\1", "/a/b", "/$1-a"), (r"/\1x\\", "/a/b", r"/ax\")]
        {
            assert_eq!(regex.replace_all(path, substitution(written).as_str()), want, "{written}");
        }
    }
}
