//! The lines that the demo prints, and the proof that each does what it says.

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::lab::{self, Lab};
use super::ports::Ports;
use super::{PIN_DIR, Site, typed};
use crate::process::command;

const PATIENCE: Duration = Duration::from_secs(10);

/// A line to type, and what comes of it.
struct Stop {
    /// Empty: goes with the line before.
    about: &'static str,
    line: String,
    /// Typed once the program runs.
    input: &'static str,
    /// In its output.
    answer: &'static str,
}

/// Prints the lines; with `check`, runs them too.
pub(crate) fn give(site: &Site, ports: &Ports, lab: Option<&Lab>, check: bool) -> Result<()> {
    let stops = stops(site, ports, lab);
    println!("\nThe gateway serves config/quickstart. Try:");
    for stop in &stops {
        if !stop.about.is_empty() {
            println!("\n  # {}", stop.about);
        }
        println!("  {}", stop.line);
        if check {
            stop.check().with_context(|| stop.line.clone())?;
        }
    }
    if check {
        println!("\nall {} lines gave the answers they should", stops.len());
    }
    Ok(())
}

fn stops(site: &Site, ports: &Ports, lab: Option<&Lab>) -> Vec<Stop> {
    let (http, https, tcp, tls) = (ports.of("http"), ports.of("https"), ports.of("tcp"), ports.of("tls"));
    let http = if http == 80 { String::new() } else { format!(":{http}") };
    let in_url = if https == 443 { String::new() } else { format!(":{https}") };
    let authority = typed(&site.authority());
    let sluice = typed(&site.sluice);
    let admin = format!("--admin-socket {}", site.admin_socket.display());
    let stop = |about, line, answer| Stop { about, line, input: "", answer };
    let mut stops = vec![
        stop(
            "virtual hosts: the Host header chooses the service",
            format!("curl -H \"Host: webapp.istioinaction.io\" http://localhost{http}/api/catalog"),
            "\"name\"",
        ),
        stop(
            "",
            format!("curl -H \"Host: catalog.istioinaction.io\" http://localhost{http}/items"),
            "\"name\"",
        ),
        stop("a host that nobody serves: 404", format!("curl -i http://localhost{http}/"), "404 Not Found"),
        stop(
            "HTTPS: two certificates on one port, chosen by the server name",
            format!(
                "curl --cacert {authority} --resolve webapp.istioinaction.io:{https}:127.0.0.1 https://webapp.istioinaction.io{in_url}/api/catalog"
            ),
            "\"name\"",
        ),
        stop(
            "",
            format!(
                "curl --cacert {authority} --resolve catalog.istioinaction.io:{https}:127.0.0.1 https://catalog.istioinaction.io{in_url}/items"
            ),
            "\"name\"",
        ),
        stop(
            "HTTP is sent to HTTPS",
            format!("curl -i -H \"Host: secure.istioinaction.io\" http://localhost{http}/api/catalog"),
            "location: https://secure.istioinaction.io/api/catalog",
        ),
        Stop {
            about: "TCP: type something, and it comes back (Ctrl-] and `quit` to leave)",
            line: format!("telnet localhost {tcp}"),
            input: "hello sluice\r\n",
            answer: "hello sluice",
        },
        stop(
            "TLS passed through to a backend that terminates it itself",
            format!(
                "openssl s_client -connect localhost:{tls} -servername simple-sni-1.istioinaction.io -CAfile {authority} </dev/null"
            ),
            "Verify return code: 0 (ok)",
        ),
        stop(
            "",
            format!(
                "curl --cacert {authority} --resolve simple-sni-1.istioinaction.io:{tls}:127.0.0.1 https://simple-sni-1.istioinaction.io:{tls}/"
            ),
            "simple-tls-service-1",
        ),
        stop(
            "what is served, and on which plane",
            format!("{sluice} proxy-config listeners {admin}"),
            "PATH",
        ),
        stop("", format!("{sluice} proxy-config routes {admin}"), "webapp.istioinaction.io"),
    ];
    if lab.is_some() {
        stops.push(Stop {
            about: "the same TCP port from another host: steered in the kernel, the gateway has no socket for it",
            line: format!("{} telnet {} {tcp}", Lab::as_client(), lab::GATEWAY),
            input: "hello kernel\r\n",
            answer: "hello kernel",
        });
        stops.push(stop(
            "the flow, as the kernel holds it",
            format!("{sluice} maps dump FLOWS --pin-dir {PIN_DIR}"),
            "198.18.53.2",
        ));
    }
    stops
}

impl Stop {
    /// Runs the line until the answer is there.
    fn check(&self) -> Result<()> {
        let mut shell = command("sh");
        shell.args(["-c", &format!("exec 2>&1; {}", self.line)]);
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().context("no input")?;
        let mut output = child.stdout.take().context("no output")?;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut chunk) {
                if tell.send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        input.write_all(self.input.as_bytes())?;
        let mut seen = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        let found = loop {
            // What is typed comes back from a terminal, not through a pipe: an echo is the backend's.
            if String::from_utf8_lossy(&seen).contains(self.answer) {
                break true;
            }
            match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(chunk) => seen.extend(chunk),
                Err(_) => break false,
            }
        };
        drop(input);
        // Its pipe is closed, and a telnet that waits for more is not waited for.
        let _ = child.kill();
        child.wait()?;
        if found {
            Ok(())
        } else {
            bail!("`{}` is not in its output:\n{}", self.answer, String::from_utf8_lossy(&seen))
        }
    }
}
