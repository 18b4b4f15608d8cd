//! The files of the image.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::workspace;
use crate::process::{self, command};

/// Where the program lies in the image.
pub(super) const PROGRAM: &str = "usr/bin/sluice";
/// Where rustls-native-certs looks first, on Debian and elsewhere.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";
/// Where distributions have them: Debian, Fedora, openSUSE.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/var/lib/ca-certificates/ca-bundle.pem",
];

/// Kind of machine, in Go's words, as images name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// By `e_machine` of an ELF file (elf(5)); of little endian machines, as both are.
    fn of(program: &[u8]) -> Result<Self> {
        ensure!(program.starts_with(b"\x7fELF"), "no program: it is not an ELF file");
        match program.get(18..20) {
            Some([62, 0]) => Ok(Self::Amd64),
            Some([183, 0]) => Ok(Self::Arm64),
            other => bail!("a program for a machine that no image is made for (e_machine {other:?})"),
        }
    }
}

/// A file's bytes, and whether it may be run.
#[derive(Debug)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    pub(super) is_program: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Contents {
    /// By path, without a slash before.
    pub(super) files: BTreeMap<String, File>,
    pub(super) architecture: Architecture,
}

impl Contents {
    /// What a program needs, and the program. The error says what is missing, and what to do.
    pub(super) fn of(binary: &Path) -> Result<Self> {
        let program = fs::read(binary).with_context(|| format!("no program at {}", binary.display()))?;
        let architecture = Architecture::of(&program).with_context(|| binary.display().to_string())?;
        let mut files = BTreeMap::new();
        for library in libraries(binary)? {
            let bytes = fs::read(&library).with_context(|| library.display().to_string())?;
            files.insert(within(&library)?, File { bytes, is_program: true });
        }
        files.insert(PROGRAM.to_owned(), File { bytes: program, is_program: true });
        files.insert(AUTHORITIES.to_owned(), File { bytes: authorities()?, is_program: false });
        let licence = fs::read(workspace()?.join("LICENSE")).context("LICENSE")?;
        files.insert("usr/share/doc/sluice/LICENSE".to_owned(), File { bytes: licence, is_program: false });
        Ok(Self { files, architecture })
    }

    /// Writes them below a directory, which is to be new or empty.
    pub(super) fn unpack(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        ensure!(fs::read_dir(directory)?.next().is_none(), "not empty: name a new directory");
        for (path, file) in &self.files {
            let path = directory.join(path);
            fs::create_dir_all(path.parent().context("a file without a directory")?)?;
            fs::write(&path, &file.bytes)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(file.mode()))?;
        }
        Ok(())
    }
}

impl File {
    /// Its permissions.
    pub(super) fn mode(&self) -> u32 {
        if self.is_program { 0o755 } else { 0o644 }
    }
}

/// A path as it is in the image.
fn within(path: &Path) -> Result<String> {
    let path = path.to_str().context("a library with a name that is no text")?;
    path.strip_prefix('/').map(str::to_owned).with_context(|| format!("{path}: a library by a relative path"))
}

/// The libraries that a program is linked with, the loader among them, where it looks for them. None, if it is linked statically.
fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let mut ldd = command("ldd");
    let output = ldd.arg(binary).output().context("cannot run ldd")?;
    let (said, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if complaint.contains("not a dynamic executable") || said.contains("statically linked") {
        return Ok(Vec::new());
    }
    ensure!(output.status.success(), "{} failed: {}", process::words(&ldd), complaint.trim());
    parse(&said)
}

/// Reads lines as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x0)` and `/lib64/ld-linux-x86-64.so.2 (0x0)`; the kernel's own
/// (`linux-vdso.so.1`) is no file.
fn parse(said: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in said.lines() {
        let line = line.trim();
        let named = line.split_once(" => ").map_or(line, |(_, at)| at);
        if named.starts_with("not found") {
            bail!("the program is linked with a library that is not installed: {line}");
        }
        if let Some(path) = named.split_whitespace().next().filter(|path| path.starts_with('/')) {
            found.push(path.into());
        }
    }
    Ok(found)
}

fn authorities() -> Result<Vec<u8>> {
    let bundle = BUNDLES.iter().find(|path| Path::new(path).is_file());
    let bundle = bundle.with_context(|| {
        format!(
            "no certificates of authorities at {}: install the package ca-certificates",
            BUNDLES.join(", ")
        )
    })?;
    fs::read(bundle).with_context(|| (*bundle).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_that_ldd_tells() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let want = [
            "/lib/x86_64-linux-gnu/libgcc_s.so.1",
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse(said).unwrap(), want.map(PathBuf::from));
        let error = parse("\tlibnone.so => not found\n").unwrap_err().to_string();
        assert!(error.contains("libnone.so"), "{error}");
    }

    #[test]
    fn machines_are_told_by_their_programs() {
        let program = |machine: u8| [&b"\x7fELF"[..], &[0; 14], &[machine, 0]].concat();
        assert_eq!(Architecture::of(&program(62)).unwrap(), Architecture::Amd64);
        assert_eq!(Architecture::of(&program(183)).unwrap(), Architecture::Arm64);
        assert!(Architecture::of(&program(3)).is_err());
        assert!(Architecture::of(b"#!/bin/sh\n").is_err());
        assert!(Architecture::of(b"\x7fELF").is_err());
    }
}
