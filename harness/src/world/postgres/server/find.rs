//! Where servers come from, and the making of one.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_postgres::Config;

use super::error::{ServerError, blocking, failed};
use super::folder::Folder;
use super::installation::Installation;
use super::life::Life;
use super::local::Local;
use super::session::{DATABASE, ROLE, Session};
use super::setup::Setup;
use super::sweep::{Swept, sweep};
use super::{LOOK, START, Server, url};

/// The kinds of servers, in the order in which they are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One that runs, given by its URL.
    Url,
    /// Of the programs on this machine.
    Local,
    /// In a container.
    Docker,
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// A server that runs; a superuser's. It is the only one that is tried, if it is given.
    pub url: Option<String>,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// The image for containers; `None` is [`Wanted::IMAGE`].
    pub image: Option<String>,
}

impl Wanted {
    /// The image, unless another one is named.
    pub const IMAGE: &str = "postgres:17";

    /// What `POOLPROOF_POSTGRES_URL`, `POOLPROOF_POSTGRES` (`url`, `local`, `docker`) and `POOLPROOF_POSTGRES_IMAGE`
    /// say; a URL of the command line comes first.
    ///
    /// # Errors
    /// `POOLPROOF_POSTGRES` is another word.
    pub fn from_environment(url: Option<String>) -> Result<Wanted, ServerError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let given = url.is_some();
        let kind = match variable("POOLPROOF_POSTGRES").as_deref() {
            // A URL of the command line says it all.
            _ if given => Some(Kind::Url),
            None => None,
            Some("url") => Some(Kind::Url),
            Some("local") => Some(Kind::Local),
            Some("docker") => Some(Kind::Docker),
            Some(other) => {
                let said = format!("POOLPROOF_POSTGRES is `{other}`: it must be `url`, `local` or `docker`");
                return Err(ServerError::Failed(said));
            }
        };
        let url = url.or_else(|| variable("POOLPROOF_POSTGRES_URL"));
        Ok(Wanted { url, kind, image: variable("POOLPROOF_POSTGRES_IMAGE") })
    }
}

/// Where servers come from.
pub struct Source {
    from: Origin,
    swept: Swept,
}

enum Origin {
    Url(Box<url::Address>),
    Local {
        installation: Arc<Installation>,
        folder: Arc<Folder>,
    },
    #[cfg(feature = "docker")]
    Docker {
        image: super::docker::Image,
        folder: Arc<Folder>,
    },
}

impl Source {
    /// Finds one, and takes away what killed processes left. For an async runtime with I/O and time.
    ///
    /// # Errors
    /// There is none: what was tried, and why each failed.
    pub async fn find(wanted: &Wanted) -> Result<Arc<Source>, ServerError> {
        let mut tried = Vec::new();
        let kinds = match (wanted.kind, &wanted.url) {
            (Some(kind), _) => vec![kind],
            (None, Some(_)) => vec![Kind::Url],
            (None, None) => vec![Kind::Local, Kind::Docker],
        };
        if wanted.kind.is_none() && wanted.url.is_none() {
            tried.push("url: neither --url nor POOLPROOF_POSTGRES_URL is given".to_owned());
        }
        for kind in kinds {
            let found = match kind {
                Kind::Url => from_url(wanted.url.as_deref()).await.map_err(|why| format!("url: {why}")),
                Kind::Local => from_programs().await.map_err(|why| format!("local: {why}")),
                Kind::Docker => from_docker(wanted).await.map_err(|why| format!("docker: {why}")),
            };
            match found {
                Ok(from) => {
                    let swept = sweep(kind == Kind::Docker).await;
                    return Ok(Arc::new(Source { from, swept }));
                }
                Err(why) => tried.push(why),
            }
        }
        Err(ServerError::NotFound(tried))
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.from {
            Origin::Url(_) => Kind::Url,
            Origin::Local { .. } => Kind::Local,
            #[cfg(feature = "docker")]
            Origin::Docker { .. } => Kind::Docker,
        }
    }

    /// What was found, for a reader: "PostgreSQL 15.18 in /usr/lib/postgresql/15/bin".
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.from {
            Origin::Url(address) => format!("the server at {}", address.address()),
            Origin::Local { installation, .. } => {
                format!("PostgreSQL {} in {}", installation.version, installation.bin().display())
            }
            #[cfg(feature = "docker")]
            Origin::Docker { image, .. } => format!("the image {image} in Docker"),
        }
    }

    /// What killed processes had left, and what became of it.
    #[must_use]
    pub fn swept(&self) -> &Swept {
        &self.swept
    }

    /// A server as a scenario asks for it, with its roles and data; it runs.
    ///
    /// # Errors
    /// It does not start (a setting that it refuses, for one), or refuses the scenario's `sql`.
    pub async fn server(self: &Arc<Self>, setup: Setup) -> Result<Server, ServerError> {
        let life = Arc::new(Life::new(true));
        match &self.from {
            Origin::Url(address) => url::server(self, address, setup, life).await,
            Origin::Local { installation, folder } => {
                let unsupported = setup.unsupported(installation.major);
                let made = {
                    let (installation, folder) = (Arc::clone(installation), Arc::clone(folder));
                    let (setup, life) = (setup.clone(), Arc::clone(&life));
                    blocking(move || Local::primary(&installation, &folder, &setup, &life)).await
                };
                let local = made?;
                let server = Server {
                    kind: Kind::Local,
                    version: installation.version.clone(),
                    session: own_session(super::control::Control::address(&local)),
                    setup,
                    control: Box::new(local),
                    life,
                    unsupported,
                    default_password: None,
                    source: Arc::clone(self),
                };
                server.start().await?;
                server.running().await?;
                fill(&server).await?;
                Ok(server)
            }
            #[cfg(feature = "docker")]
            Origin::Docker { image, folder } => {
                let docker = super::docker::Docker::primary(image, folder, &setup, &life).await?;
                let address = super::control::Control::address(&docker);
                let mut server = Server {
                    kind: Kind::Docker,
                    version: String::new(),
                    session: own_session(address),
                    setup,
                    control: Box::new(docker),
                    life,
                    unsupported: Vec::new(),
                    default_password: None,
                    source: Arc::clone(self),
                };
                server.life.running(START).await?;
                fill(&server).await?;
                let (version, major) = ask_version(&server.session).await?;
                server.version = version;
                server.unsupported = server.setup.unsupported(major);
                Ok(server)
            }
        }
    }
}

/// A standby of a server.
pub(super) async fn standby(primary: &Server) -> Result<Server, ServerError> {
    let Some(hot_standby) = primary.setup.hot_standby else {
        return Err(ServerError::Failed("the scenario has no standby, so its server was made for none".to_owned()));
    };
    let life = Arc::new(Life::new(hot_standby));
    let control = primary.control.standby(&life).await?;
    let server = Server {
        kind: primary.kind,
        version: primary.version.clone(),
        setup: primary.setup.clone(),
        session: own_session(control.address()),
        control,
        life,
        unsupported: primary.unsupported.clone(),
        default_password: primary.default_password,
        source: Arc::clone(&primary.source),
    };
    server.running().await?;
    Ok(server)
}

/// Poolproof's own session on a server it made.
fn config(address: SocketAddr) -> Config {
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user(ROLE).dbname(DATABASE);
    config
}

fn own_session(address: SocketAddr) -> Arc<Session> {
    Arc::new(Session::past_slots(config(address), address))
}

/// The roles, the database and its data, by ordinary sessions, which are gone afterwards.
async fn fill(server: &Server) -> Result<(), ServerError> {
    let mut maintenance = config(server.address());
    maintenance.dbname("postgres");
    let (roles, data) = (Session::new(maintenance), Session::new(config(server.address())));
    for statement in server.setup.make_database() {
        roles.query(&statement).await?;
    }
    for statement in server.setup.make_data() {
        data.query(&statement).await?;
    }
    roles.close().await;
    data.close().await;
    let gone = async {
        while !server.session.backends().await?.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    tokio::time::timeout(START, gone).await.unwrap_or_else(|_| Err(failed("the server", "it keeps closed sessions")))
}

/// "15.18" and 15, as the server tells.
pub(super) async fn ask_version(session: &Session) -> Result<(String, u32), ServerError> {
    let rows = session.query("SELECT current_setting('server_version'), current_setting('server_version_num')").await?;
    let mut told = rows.into_iter().flatten().flatten();
    let version = told.next().and_then(|version| Some(version.split_whitespace().next()?.to_owned()));
    let number: Option<u32> = told.next().and_then(|number| number.parse().ok());
    match (version, number) {
        (Some(version), Some(number)) => Ok((version, number / 10_000)),
        _ => Err(ServerError::Failed("the server does not tell its version".to_owned())),
    }
}

async fn from_url(url: Option<&str>) -> Result<Origin, ServerError> {
    let url = url.ok_or_else(|| ServerError::Failed("neither --url nor POOLPROOF_POSTGRES_URL is given".to_owned()))?;
    url::Address::parse(url).await.map(|address| Origin::Url(Box::new(address)))
}

async fn from_programs() -> Result<Origin, ServerError> {
    blocking(|| {
        let installation = Arc::new(Installation::find().map_err(ServerError::Failed)?);
        Ok(Origin::Local { installation, folder: Folder::current()? })
    })
    .await
}

#[cfg(feature = "docker")]
async fn from_docker(wanted: &Wanted) -> Result<Origin, ServerError> {
    let image = super::docker::Image::find(wanted.image.as_deref().unwrap_or(Wanted::IMAGE)).await?;
    Ok(Origin::Docker { image, folder: Folder::current()? })
}

#[cfg(not(feature = "docker"))]
async fn from_docker(_wanted: &Wanted) -> Result<Origin, ServerError> {
    Err(ServerError::Failed("this poolproof is built without the feature `docker`".to_owned()))
}
