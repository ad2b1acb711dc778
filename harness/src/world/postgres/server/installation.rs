//! PostgreSQL's programs on this machine.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::error::{ServerError, failed};
use super::folder::Folder;
use super::session::ROLE;

/// Where Homebrew has them, on Apple silicon and on Intel.
const HOMEBREW: [&str; 2] = ["/opt/homebrew/opt", "/usr/local/opt"];

/// `initdb`, `postgres` and `pg_basebackup` of one version.
#[derive(Debug)]
pub(super) struct Installation {
    bin: PathBuf,
    /// "15.18"
    pub(super) version: String,
    pub(super) major: u32,
    /// Whom the server runs as, when this process is root's: user and group.
    user: Option<(u32, u32)>,
    /// A data directory to be copied.
    template: OnceLock<Result<PathBuf, ServerError>>,
}

impl Installation {
    /// The first one to be had, of those on PATH, of `pg_config`, and of the usual places, the newest first. Error:
    /// what was tried.
    pub(super) fn find() -> Result<Installation, String> {
        let user = unprivileged_user()?;
        let mut tried = 0;
        let mut broken = Vec::new();
        for bin in places() {
            tried += 1;
            if !bin.join("initdb").is_file() {
                continue;
            }
            // Where it really is: beside it are the others, which a folder of links may not have.
            let Ok(postgres) = bin.join("postgres").canonicalize() else { continue };
            let bin = postgres.parent().unwrap_or(&bin).to_owned();
            match version(&bin) {
                Ok((version, major)) => {
                    return Ok(Installation { bin, version, major, user, template: OnceLock::new() });
                }
                Err(why) => broken.push(why),
            }
        }
        let broken = broken.iter().map(|why| format!("; {why}")).collect::<String>();
        Err(format!(
            "neither PATH, `pg_config --bindir`, /usr/lib/postgresql/*/bin nor Homebrew has initdb and postgres \
             ({tried} folders){broken}"
        ))
    }

    pub(super) fn bin(&self) -> &Path {
        &self.bin
    }

    /// One of the programs, to be run as whom the server runs as, in this folder.
    pub(super) fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(folder).env_clear().env("LC_ALL", "C").stdin(Stdio::null());
        if let Some((uid, gid)) = self.user {
            use std::os::unix::process::CommandExt as _;
            command.uid(uid).gid(gid);
        }
        command
    }

    /// A new folder that belongs to whom the server runs as.
    pub(super) fn folder(&self, path: &Path) -> Result<(), ServerError> {
        let (uid, gid) = self.user.unzip();
        let made = fs::create_dir(path).and_then(|()| std::os::unix::fs::chown(path, uid, gid)).and_then(|()| {
            // PostgreSQL asks for no more than this.
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        });
        made.map_err(|error| failed(path.display(), error))
    }

    /// Runs a program to its end.
    pub(super) fn run(&self, program: &str, folder: &Path, arguments: &[&OsStr]) -> Result<(), ServerError> {
        let done = self.command(program, folder).args(arguments).output().map_err(|error| failed(program, error))?;
        if done.status.success() {
            return Ok(());
        }
        Err(failed(program, String::from_utf8_lossy(&done.stderr).trim()))
    }

    /// A new data directory as `initdb` makes it: made once in a folder, copied each time.
    pub(super) fn data(&self, folder: &Folder, path: &Path) -> Result<(), ServerError> {
        let template = self.template.get_or_init(|| {
            let template = folder.next("template");
            self.folder(&template)?;
            let options = ["--no-sync", "-A", "trust", "-U", ROLE, "--locale=C", "-E", "UTF8", "-D"];
            let mut arguments: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
            arguments.push(template.as_os_str());
            self.run("initdb", folder.path(), &arguments)?;
            Ok(template)
        });
        let template = template.as_ref().map_err(Clone::clone)?;
        self.folder(path)?;
        let copied = Command::new("cp").arg("-a").arg(template.join(".")).arg(path).output();
        let copied = copied.map_err(|error| failed("cp", error))?;
        if copied.status.success() { Ok(()) } else { Err(failed("cp", String::from_utf8_lossy(&copied.stderr).trim())) }
    }
}

/// Folders that may have the programs, in the order of preference.
fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    if let Ok(asked) = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output()
        && asked.status.success()
    {
        places.push(PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim()));
    }
    let versions = |parent: &str, prefix: &str| {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let mut found: Vec<(u32, PathBuf)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Some((name.strip_prefix(prefix)?.parse().ok()?, entry.path().join("bin")))
            })
            .collect();
        found.sort_by(|a, b| b.cmp(a));
        found.into_iter().map(|(_, bin)| bin)
    };
    places.extend(versions("/usr/lib/postgresql", ""));
    for opt in HOMEBREW {
        places.extend(versions(opt, "postgresql@"));
    }
    places
}

/// "15.18" and 15.
fn version(bin: &Path) -> Result<(String, u32), String> {
    let postgres = bin.join("postgres");
    let place = postgres.display();
    let asked = Command::new(&postgres).arg("--version").output().map_err(|error| format!("{place}: {error}"))?;
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "postgres (PostgreSQL) 17beta1"
    let said = String::from_utf8_lossy(&asked.stdout);
    let version = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let major = version.and_then(|version| {
        let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    match (version, major) {
        (Some(version), Some(major)) => Ok((version.to_owned(), major)),
        _ => Err(format!("{place} does not tell its version: {}", said.trim())),
    }
}

/// PostgreSQL refuses to run as root.
fn unprivileged_user() -> Result<Option<(u32, u32)>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    for wanted in ["postgres", "nobody"] {
        let user = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let ids = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            (name == wanted).then_some(ids)
        });
        if user.is_some() {
            return Ok(user);
        }
    }
    Err("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`".to_owned())
}
