//! What the machine says of names: `/etc/resolv.conf` (resolv.conf(5)) and `/etc/hosts` (hosts(5)). Read at each question, as
//! both change under a running process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Port of name servers.
const PORT: u16 = 53;

/// Whom to ask, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct System {
    pub(super) servers: Vec<SocketAddr>,
    search: Vec<String>,
}

impl System {
    /// What the machine says now; what cannot be read says nothing.
    pub(super) fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }

    /// Without a `nameserver` it is the machine itself.
    fn parse(text: &str) -> Self {
        let (mut servers, mut search) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                Some("search" | "domain") => search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        if servers.is_empty() {
            servers.push(Ipv4Addr::LOCALHOST.into());
        }
        Self { servers: servers.into_iter().map(|server| SocketAddr::new(server, PORT)).collect(), search }
    }

    /// The names to ask for, in order. One with a dot is asked for as it is: documents write names in full, and Kubernetes'
    /// `ndots:5` would have five questions go to nobody for each.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        let whole = name.trim_end_matches('.');
        let searched = self.search.iter().map(|domain| format!("{whole}.{}", domain.trim_matches('.')));
        let searched = searched.filter(|_| !name.contains('.'));
        searched.chain([whole.to_owned()]).collect()
    }
}

/// IPv4 addresses that `/etc/hosts` has for a name.
pub(super) fn hosts(name: &str) -> Vec<IpAddr> {
    parse_hosts(&std::fs::read_to_string("/etc/hosts").unwrap_or_default(), name)
}

fn parse_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or(""));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address: Ipv4Addr = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address.into())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_search_domains_are_read_as_the_manual_says() {
        let text =
            "# a comment\nnameserver 192.0.2.1\nnameserver fd00::1\nsearch a.test b.test.\noptions ndots:5\n";
        let system = System::parse(text);
        let servers: Vec<String> = system.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[fd00::1]:53"]);
        assert_eq!(system.candidates("db"), ["db.a.test", "db.b.test", "db"]);
        assert_eq!(system.candidates("db.x"), ["db.x"]);
        assert_eq!(system.candidates("db."), ["db"]);
        assert_eq!(System::parse("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn hosts_have_several_names_and_comments() {
        let text = "127.0.0.1 localhost\n192.0.2.1 a.test A # c.test\n::1 a.test\n192.0.2.2\tb a.TEST\n";
        let found = |name: &str| parse_hosts(text, name).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found("a.test"), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(found("b."), ["192.0.2.2"]);
        assert!(found("c.test").is_empty());
    }
}
