//! The documents of a large mesh, as teams keep them: a file for each hundred. Made here for whoever measures what they cost;
//! also a part of the benchmark `translate`, so that both speak of the same.

use std::fmt::Write as _;

/// Documents of a file.
const FILE: usize = 100;
/// `http` rules of a VirtualService.
pub const ROUTES: usize = 5;
/// Endpoints of a Service.
pub const ENDPOINTS: usize = 10;

/// How many documents there are. Hosts are `h<number>.example.com`, whose last route is for `/p4/`.
#[derive(Debug, Clone, Copy)]
pub struct Mesh {
    /// VirtualServices of [`ROUTES`] routes, each to another Service.
    pub virtual_services: usize,
    /// Services of [`ENDPOINTS`] endpoints in one EndpointSlice.
    pub services: usize,
}

/// Name, without `.yaml`, and text.
pub type File = (String, String);

impl Mesh {
    /// So many VirtualServices, and half as many Services.
    pub fn of(virtual_services: usize) -> Self {
        Self { virtual_services, services: virtual_services / 2 }
    }

    /// All files, one at a time.
    pub fn files(self) -> impl Iterator<Item = File> {
        let routes = (0..self.virtual_services).step_by(FILE).map(move |first| self.routes(first, 0));
        let services = (0..self.services).step_by(FILE).map(move |first| self.services(first, 0));
        std::iter::once(gateway()).chain(routes).chain(services)
    }

    /// The first file of VirtualServices after a change, whose number shows in the first of them.
    pub fn changed_virtual_service(self, change: usize) -> File {
        self.routes(0, change)
    }

    /// The first file of Services after a change, whose number shows in an address of the first one.
    pub fn changed_endpoint_slice(self, change: usize) -> File {
        self.services(0, change)
    }

    fn routes(self, first: usize, change: usize) -> File {
        let mut text = String::new();
        for at in first..self.virtual_services.min(first + FILE) {
            self.virtual_service(at, if at == first { change } else { 0 }, &mut text);
        }
        (format!("routes-{first}"), text)
    }

    fn virtual_service(self, at: usize, change: usize, text: &mut String) {
        let _ = write!(
            text,
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{at}}}\nspec:\n  hosts: \
             [h{at}.example.com]\n  gateways: [edge]\n  http:\n"
        );
        for route in 0..ROUTES {
            let service = (at + route) % self.services;
            let version = if route == 0 { change } else { 0 };
            let _ = writeln!(
                text,
                "  - match: [{{uri: {{prefix: /p{route}/}}, headers: {{x-version: {{exact: 'v{version}'}}}}}}, {{uri: \
                 {{prefix: /p{route}/}}}}]\n    route: [{{destination: {{host: s{service}}}}}]"
            );
        }
    }

    fn services(self, first: usize, change: usize) -> File {
        let change = |at| if at == first { change } else { 0 };
        let text = (first..self.services.min(first + FILE)).map(|at| service(at, change(at))).collect();
        (format!("services-{first}"), text)
    }
}

fn gateway() -> File {
    let text = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  servers:\n  - {port: \
                {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com']}\n";
    ("gateway".to_owned(), text.to_owned())
}

fn service(at: usize, change: usize) -> String {
    let last = |endpoint| if endpoint == 0 { 100 + change } else { endpoint };
    let addresses: Vec<String> = (0..ENDPOINTS)
        .map(|endpoint| format!("{{addresses: [10.{}.{}.{}]}}", at / 250, at % 250, last(endpoint)))
        .collect();
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{at}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s{at}-1, labels: \
         {{kubernetes.io/service-name: s{at}}}}}\nports: [{{name: http, port: 8080}}]\nendpoints: [{}]\n",
        addresses.join(", ")
    )
}
