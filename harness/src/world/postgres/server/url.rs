//! A server that runs, and is given by its URL: not poolproof's, so nothing is done to its processes.
//!
//! Poolproof makes the scenario's roles and the database `app` there, marks them by a comment, and drops them in the
//! end. What it finds of these names without its mark, it does not touch. One run at a time has the server: an advisory
//! lock says so.

use std::net::SocketAddr;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use poolproof_sim::postgres::event::Lifecycle;
use tokio::task::JoinHandle;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::Server;
use super::control::Control;
use super::error::{ServerError, failed};
use super::find::{Kind, Source, ask_version};
use super::folder::Dispose;
use super::life::Life;
use super::session::{DATABASE, Session, identifier, literal};
use super::setup::{Setup, create_database, create_role};
use crate::scenario::model::Auth;

/// The comment on what poolproof made.
const MARK: &str = "made by poolproof";
/// Clients' password, where the scenario has none: the server's `pg_hba.conf` may ask for one.
const PASSWORD: &str = "poolproof";
/// How often it is asked whether it still runs.
const PROBE: Duration = Duration::from_millis(250);
/// The key of the advisory lock; "poolprf" in ASCII.
const LOCK: i64 = 0x70_6f_6f_6c_70_72_66;

/// The URL, understood.
pub(super) struct Address {
    config: Config,
    address: SocketAddr,
}

impl Address {
    pub(super) async fn parse(url: &str) -> Result<Address, ServerError> {
        let config = Config::from_str(url).map_err(|error| failed("the URL of the server", error))?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(ServerError::Failed("sslmode=require: poolproof speaks no TLS".to_owned()));
        }
        let host = match config.get_hosts() {
            [Host::Tcp(host)] => host.clone(),
            _ => return Err(ServerError::Failed("the URL of the server must have one host, by TCP".to_owned())),
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let mut found = tokio::net::lookup_host((host.as_str(), port)).await.map_err(|error| failed(&host, error))?;
        let address = found.next().ok_or_else(|| failed(&host, "it has no address"))?;
        Session::new(config.clone()).query("SELECT 1").await?;
        Ok(Address { config, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The server.
struct Remote {
    address: SocketAddr,
    config: Config,
    /// Holds the lock.
    admin: Arc<Session>,
    /// Roles that were made.
    roles: Mutex<Vec<String>>,
    probe: JoinHandle<()>,
}

/// Makes the scenario's roles and data there.
pub(super) async fn server(
    source: &Arc<Source>,
    address: &Address,
    setup: Setup,
    life: Arc<Life>,
) -> Result<Server, ServerError> {
    // Past the slots, where it lets this user; otherwise poolproof's two sessions take two of them.
    let past_slots = Session::past_slots(address.config.clone(), address.address).query("SELECT 1").await.is_ok();
    let session = |config: Config| match past_slots {
        true => Arc::new(Session::past_slots(config, address.address)),
        false => Arc::new(Session::new(config)),
    };
    let admin = session(address.config.clone());
    let locked = admin.query(&format!("SELECT pg_try_advisory_lock({LOCK})")).await?;
    if locked != [[Some("t".to_owned())]] {
        return Err(ServerError::Failed("another run of poolproof uses the server".to_owned()));
    }
    let (version, major) = ask_version(&admin).await?;
    let mut unsupported = setup.unsupported(major);
    for (name, asked) in setup.slots() {
        let has = admin.query(&format!("SHOW {name}")).await?;
        let has = has.into_iter().flatten().flatten().next().unwrap_or_default();
        if has != asked.to_string() {
            unsupported.push(format!("unsupported: {name} is {has} on the server, and the scenario needs {asked}"));
        }
    }
    if setup.hot_standby.is_some() {
        unsupported.push("unsupported: a standby needs control of the server".to_owned());
    }
    let mut config = address.config.clone();
    config.dbname(DATABASE);
    life.started();
    life.enter(Lifecycle::Running);
    let probe = tokio::spawn(probe(Arc::clone(&admin), Arc::clone(&life)));
    let remote = Arc::new(Remote {
        address: address.address,
        config: address.config.clone(),
        admin: Arc::clone(&admin),
        roles: Mutex::default(),
        probe,
    });
    let mut server = Server {
        kind: Kind::Url,
        version,
        session: session(config),
        control: Box::new(Arc::clone(&remote)),
        life,
        unsupported,
        // With trust it is not asked for.
        default_password: (setup.auth() == Auth::Trust).then_some(PASSWORD),
        setup,
        source: Arc::clone(source),
    };
    // From here on a failure drops the server, which drops what was made.
    let refused = make(&server, &remote).await?;
    server.unsupported.extend(refused);
    Ok(server)
}

/// Gives the settings that the server refuses.
async fn make(server: &Server, remote: &Remote) -> Result<Vec<String>, ServerError> {
    let (admin, setup) = (&remote.admin, &server.setup);
    let mark = |kind: &str, name: &str| format!("COMMENT ON {kind} {} IS {}", identifier(name), literal(MARK));
    if is_free(admin, "pg_database", "datname", DATABASE).await? {
        admin.query(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")).await?;
    }
    for (name, role) in setup.roles() {
        if name == "postgres" && !setup.names_role(name) && exists(admin, "pg_authid", "rolname", name).await? {
            // The server's own superuser does as well.
            continue;
        }
        if is_free(admin, "pg_authid", "rolname", name).await? {
            admin.query(&format!("DROP ROLE IF EXISTS {}", identifier(name))).await?;
        }
        remote.roles.lock().push(name.to_owned());
        admin.query(&create_role(name, &role, server.password(name))).await?;
        admin.query(&mark("ROLE", name)).await?;
    }
    admin.query(&create_database(setup.database_limit())).await?;
    admin.query(&mark("DATABASE", DATABASE)).await?;
    let mut refused = Vec::new();
    for (name, value) in setup.settings() {
        let set = format!("ALTER DATABASE {DATABASE} SET {} = {}", identifier(name), literal(value));
        if let Err(error) = admin.query(&set).await {
            refused.push(format!("unsupported: the setting {name} needs control of the server: {error}"));
        }
    }
    for statement in setup.make_data() {
        server.session.query(&statement).await?;
    }
    Ok(refused)
}

async fn exists(admin: &Session, table: &str, column: &str, name: &str) -> Result<bool, ServerError> {
    let table = if table == "pg_authid" { "pg_roles" } else { table };
    let rows = admin.query(&format!("SELECT 1 FROM {table} WHERE {column} = {}", literal(name))).await?;
    Ok(!rows.is_empty())
}

/// Whether a name may be taken: there is none, or it is poolproof's.
async fn is_free(admin: &Session, catalog: &str, column: &str, name: &str) -> Result<bool, ServerError> {
    if !exists(admin, catalog, column, name).await? {
        return Ok(true);
    }
    let table = if catalog == "pg_authid" { "pg_roles" } else { catalog };
    let sql =
        format!("SELECT shobj_description(oid, {}) FROM {table} WHERE {column} = {}", literal(catalog), literal(name));
    let comment = admin.query(&sql).await?.into_iter().flatten().flatten().next();
    if comment.as_deref() == Some(MARK) {
        return Ok(true);
    }
    Err(ServerError::Failed(format!(
        "the server has a {name} in {catalog} that poolproof did not make; it is left alone"
    )))
}

/// Tells what the server is doing, as far as it answers.
async fn probe(admin: Arc<Session>, life: Arc<Life>) {
    loop {
        tokio::time::sleep(PROBE).await;
        life.enter(match admin.query("SELECT 1").await {
            Ok(_) => Lifecycle::Running,
            Err(ServerError::Refused { message, .. }) if message.contains("starting up") => Lifecycle::StartingUp,
            Err(ServerError::Refused { message, .. }) if message.contains("shutting down") => Lifecycle::ShuttingDown,
            Err(ServerError::Refused { code, .. }) if code == "57P03" => Lifecycle::Recovering,
            // It has answered.
            Err(ServerError::Refused { .. }) => Lifecycle::Running,
            Err(_) => Lifecycle::Down,
        });
    }
}

impl Control for Arc<Remote> {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Dispose for Arc<Remote> {
    fn dispose(&self) {
        self.probe.abort();
        let roles = std::mem::take(&mut *self.roles.lock());
        if roles.is_empty() {
            return;
        }
        let config = self.config.clone();
        let dropped = std::thread::scope(|scope| scope.spawn(|| drop_all(config, &roles)).join());
        if let Ok(Err(error)) = dropped {
            eprintln!("poolproof: the database {DATABASE} and roles ({}) are left behind: {error}", roles.join(", "));
        }
    }
}

fn drop_all(config: Config, roles: &[String]) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed("a runtime", error))?;
    runtime.block_on(async {
        let session = Session::new(config);
        session.query(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")).await?;
        for role in roles {
            session.query(&format!("DROP ROLE IF EXISTS {}", identifier(role))).await?;
        }
        session.close().await;
        Ok(())
    })
}
