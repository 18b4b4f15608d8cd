//! The compiler and the linker of the kernel programs: finding them, and installing what is missing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The compiler of Debian's packages; it brings a `core` for the target with it.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Target of the kernel programs.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_COMPILER: [&str; 3] = ["rustc-web", "rust-web-src", "libstd-rust-web-dev-bpf"];

/// What installs a toolchain by hand.
const INSTRUCTIONS: &str = "install one with\n  \
    rustup toolchain install nightly --component rust-src && cargo install bpf-linker\nor, on Debian, with\n  \
    apt-get install rustc-web rust-web-src libstd-rust-web-dev-bpf llvm-22-dev libpolly-22-dev zlib1g-dev \
    libzstd-dev &&\n  \
    LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --no-default-features --features llvm-22";

/// A compiler that knows the kernel's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// rustup's nightly with its source, which `core` is built from.
    Nightly,
    /// A compiler with a prebuilt `core`.
    Prebuilt(PathBuf),
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly => f.write_str("rustup's nightly with rust-src"),
            Self::Prebuilt(rustc) => write!(f, "{} with a prebuilt core", rustc.display()),
        }
    }
}

/// Compiler and linker.
#[derive(Debug, Clone)]
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) compiler: Compiler,
    /// Path of bpf-linker.
    pub(crate) linker: PathBuf,
}

/// Finds a toolchain; the error names the commands that install one.
pub(crate) fn find() -> Result<Toolchain> {
    let Some(compiler) = find_compiler() else {
        bail!("no compiler for {TARGET}: {INSTRUCTIONS}");
    };
    let Some(linker) = find_linker() else {
        bail!("no bpf-linker: {INSTRUCTIONS}");
    };
    Ok(Toolchain { compiler, linker })
}

/// Finds a toolchain, installing what is missing without asking; prints a line for each step. Needs root only if
/// packages are missing.
pub(crate) fn ensure() -> Result<Toolchain> {
    let mut packages = Packages::default();
    let compiler = match find_compiler() {
        Some(compiler) => compiler,
        None => install_compiler(&mut packages)?,
    };
    eprintln!("kernel programs: compiler is {compiler}");
    let linker = match find_linker() {
        Some(linker) => linker,
        None => install_linker(&compiler, &mut packages)?,
    };
    eprintln!("kernel programs: linker is {}", linker.display());
    Ok(Toolchain { compiler, linker })
}

fn find_compiler() -> Option<Compiler> {
    if has_nightly_source() {
        return Some(Compiler::Nightly);
    }
    let rustc = Path::new(DEBIAN_RUSTC);
    has_prebuilt_core(rustc).then(|| Compiler::Prebuilt(rustc.to_owned()))
}

/// A nightly alone is not enough: `core` must be built, and its source is a component of its own.
fn has_nightly_source() -> bool {
    output(Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"])).is_some_and(
        |sysroot| Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file(),
    )
}

fn has_prebuilt_core(rustc: &Path) -> bool {
    let libraries = output(Command::new(rustc).args(["--target", TARGET, "--print", "target-libdir"]));
    libraries.and_then(|path| std::fs::read_dir(path).ok()).is_some_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

fn install_compiler(packages: &mut Packages) -> Result<Compiler> {
    eprintln!("kernel programs: no compiler for {TARGET}, installing Debian's");
    packages.install(&DEBIAN_COMPILER)?;
    find_compiler()
        .with_context(|| format!("the packages are installed, but {DEBIAN_RUSTC} has no core for {TARGET}"))
}

fn find_linker() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(cargo_bin())
        .map(|directory| directory.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
}

/// Where `cargo install` puts programs, on PATH or not.
fn cargo_bin() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))?;
    Some(home.join("bin"))
}

/// The linker's LLVM must not be older than the compiler's, so it is built against the same one.
fn install_linker(compiler: &Compiler, packages: &mut Packages) -> Result<PathBuf> {
    let mut install = Command::new("cargo");
    install.args(["install", "--quiet", "bpf-linker"]).env_remove("RUSTFLAGS").env_remove("CARGO_TARGET_DIR");
    if let Compiler::Prebuilt(rustc) = compiler {
        let llvm = llvm_version(rustc)?;
        let development =
            [&format!("llvm-{llvm}-dev"), &format!("libpolly-{llvm}-dev"), "zlib1g-dev", "libzstd-dev"];
        packages.install(&development)?;
        install.env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"));
        install.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
    }
    eprintln!("kernel programs: building bpf-linker, which takes a minute or two");
    run(&mut install)?;
    find_linker().context("bpf-linker is installed, but not found on PATH or in cargo's bin directory")
}

fn llvm_version(rustc: &Path) -> Result<u32> {
    let text = output(Command::new(rustc).arg("-vV")).context("the compiler does not tell its version")?;
    text.lines()
        .find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next()?.parse().ok())
        .with_context(|| format!("no LLVM version in\n{text}"))
}

/// Debian's packages. The lists are refreshed once, before the first installation.
#[derive(Default)]
struct Packages {
    refreshed: bool,
}

impl Packages {
    fn install(&mut self, names: &[&str]) -> Result<()> {
        let missing: Vec<&str> = names.iter().copied().filter(|name| !is_installed(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if !is_root() {
            bail!(
                "packages are missing and only root can install them: apt-get install {}",
                missing.join(" ")
            );
        }
        if !self.refreshed {
            eprintln!("kernel programs: refreshing the package lists");
            run(Command::new("apt-get").args(["update", "-qq"]))?;
            self.refreshed = true;
        }
        eprintln!("kernel programs: installing {}", missing.join(" "));
        run(Command::new("apt-get")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    }
}

fn is_installed(package: &str) -> bool {
    output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_some_and(|status| status == "installed")
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_some_and(|id| id == "0")
}

/// What a command prints, if it succeeds.
fn output(command: &mut Command) -> Option<String> {
    let done = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// Runs a command that must succeed, with its messages shown.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}
