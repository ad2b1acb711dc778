//! SCRAM-SHA-256 authentication, the server's side, as PostgreSQL does it (RFC 5802 and 7677, `auth-scram.c`).
//!
//! The exchange is a chain of states: [`Exchange`] takes the client's first message and gives the server's, [`Proof`]
//! takes the client's last message and gives the server's or the error. The bytes of nonces and salts come from the caller.
//! Left out: channel binding (it needs TLS; only `SCRAM-SHA-256` is offered) and `scram_iterations` other than what a
//! verifier was made with.
//!
//! <https://www.postgresql.org/docs/15/sasl-authentication.html>

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::error::{PgError, SqlState};

/// The mechanism's name in AuthenticationSASL.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// Rounds of PBKDF2 in a new verifier; PostgreSQL's default.
pub const ITERATIONS: u32 = 4096;

type Key = [u8; 32];

/// What the server stores instead of a password (`pg_authid.rolpassword`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    salt: [u8; 16],
    iterations: u32,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// Of a password, with a salt; costs [`ITERATIONS`] rounds, about 1 ms, the first time in a process and nothing again.
    #[must_use]
    pub fn new(password: &str, salt: [u8; 16]) -> Self {
        // A pure function's results: sharing them between runs changes none of them.
        static KNOWN: Mutex<BTreeMap<(String, [u8; 16]), Verifier>> = Mutex::new(BTreeMap::new());
        let key = (password.to_owned(), salt);
        if let Some(verifier) = KNOWN.lock().get(&key) {
            return verifier.clone();
        }
        let verifier = Verifier::with_iterations(password, salt, ITERATIONS);
        KNOWN.lock().insert(key, verifier.clone());
        verifier
    }

    /// Of a password, with a salt and a number of rounds.
    #[must_use]
    pub fn with_iterations(password: &str, salt: [u8; 16], iterations: u32) -> Self {
        // Like the server, take a password that SASLprep forbids as it is.
        let prepared = stringprep::saslprep(password);
        let password = prepared.as_deref().unwrap_or(password);
        let salted = salted_password(password.as_bytes(), &salt, iterations);
        Verifier {
            salt,
            iterations,
            stored_key: Sha256::digest(hmac(&salted, &[b"Client Key"])).into(),
            server_key: hmac(&salted, &[b"Server Key"]),
        }
    }

    /// For a role that does not exist or has no password: an exchange with it looks like any other and fails at its end.
    /// `secret` is the server's own (`mock_authentication_nonce`), so that the salt is always the same for a name.
    fn mock(user: &str, secret: &[u8; 32]) -> Self {
        let digest: Key = Sha256::new()
            .chain_update(user)
            .chain_update(secret)
            .finalize()
            .into();
        let mut salt = [0; 16];
        salt.copy_from_slice(&digest[..16]);
        Verifier {
            salt,
            iterations: ITERATIONS,
            stored_key: [0; 32],
            server_key: [0; 32],
        }
    }
}

/// As in `pg_authid.rolpassword`.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| BASE64.encode(bytes));
        write!(
            f,
            "{MECHANISM}${}:{salt}${stored}:{server}",
            self.iterations
        )
    }
}

/// An exchange that waits for the client-first-message.
#[derive(Debug)]
pub struct Exchange {
    user: String,
    verifier: Verifier,
    /// No password is right.
    doomed: bool,
    nonce: String,
}

impl Exchange {
    /// For `user`, by the startup packet. Without a verifier the exchange takes its course and fails. `nonce` must be
    /// fresh; `secret` is the server's for all its life.
    #[must_use]
    pub fn new(user: &str, verifier: Option<Verifier>, nonce: [u8; 18], secret: &[u8; 32]) -> Self {
        Exchange {
            user: user.to_owned(),
            doomed: verifier.is_none(),
            verifier: verifier.unwrap_or_else(|| Verifier::mock(user, secret)),
            nonce: BASE64.encode(nonce),
        }
    }

    /// Takes the client-first-message (SASLInitialResponse with mechanism `SCRAM-SHA-256`), gives the
    /// server-first-message for AuthenticationSASLContinue.
    ///
    /// # Errors
    ///
    /// FATAL 08P01 for a malformed message, 0A000 for what is not supported.
    pub fn client_first(self, message: &[u8]) -> Result<(String, Proof), PgError> {
        let message = as_text(message)?;
        let mut rest = message;
        match rest.chars().next() {
            Some('n' | 'y') => rest = &rest[1..],
            Some('p') => {
                return Err(malformed(
                    "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel \
                     binding data.",
                ));
            }
            other => {
                return Err(malformed(format!(
                    "Unexpected channel-binding flag \"{}\".",
                    shown(other)
                )));
            }
        }
        let header_flag = &message[..1];
        rest = rest.strip_prefix(',').ok_or_else(|| {
            let found = shown(rest.chars().next());
            malformed(format!("Comma expected, but found character \"{found}\"."))
        })?;
        if rest.starts_with('a') {
            return Err(unsupported(
                "client uses authorization identity, but it is not supported",
            ));
        }
        let bare = rest.strip_prefix(',').ok_or_else(|| {
            let found = shown(rest.chars().next());
            malformed(format!(
                "Unexpected attribute \"{found}\" in client-first-message."
            ))
        })?;
        if bare.starts_with('m') {
            return Err(unsupported(
                "client requires an unsupported SCRAM extension",
            ));
        }
        let (_user, rest) = attribute('n', bare)?;
        let (client_nonce, _extensions) = attribute('r', rest)?;
        if !client_nonce
            .bytes()
            .all(|byte| (0x21..=0x7e).contains(&byte))
        {
            return Err(fatal(
                SqlState::PROTOCOL_VIOLATION,
                "non-printable characters in SCRAM nonce",
            ));
        }

        let nonce = format!("{client_nonce}{}", self.nonce);
        let salt = BASE64.encode(self.verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", self.verifier.iterations);
        let proof = Proof {
            binding: BASE64.encode(format!("{header_flag},,")),
            signed: format!("{bare},{server_first},"),
            exchange: self,
            nonce,
        };
        Ok((server_first, proof))
    }
}

/// An exchange that waits for the client-final-message.
#[derive(Debug)]
pub struct Proof {
    exchange: Exchange,
    nonce: String,
    /// What `c=` has to say.
    binding: String,
    /// The signed text up to the client-final-message.
    signed: String,
}

impl Proof {
    /// Takes the client-final-message (SASLResponse), gives the server-final-message for AuthenticationSASLFinal; the
    /// client is who it says.
    ///
    /// # Errors
    ///
    /// FATAL 28P01 `password authentication failed for user "…"`; 08P01 for a malformed message.
    pub fn client_final(self, message: &[u8]) -> Result<String, PgError> {
        let message = as_text(message)?;
        let (binding, mut rest) = attribute('c', message)?;
        if binding != self.binding {
            return Err(fatal(
                SqlState::PROTOCOL_VIOLATION,
                "unexpected SCRAM channel-binding attribute in client-final-message",
            ));
        }
        let (nonce, after) = attribute('r', rest)?;
        rest = after;
        // Extensions are passed over; the proof ends the message.
        let proof = loop {
            let start = message.len() - rest.len();
            if rest.starts_with('p') {
                let (proof, after) = attribute('p', rest)?;
                let mut key: Key = [0; 32];
                match BASE64.decode(proof) {
                    Ok(bytes) if bytes.len() == key.len() => key.copy_from_slice(&bytes),
                    _ => return Err(malformed("Malformed proof in client-final-message.")),
                }
                if !after.is_empty() {
                    return Err(malformed(
                        "Garbage found at the end of client-final-message.",
                    ));
                }
                // The text before ",p=".
                break (&message[..start - 1], key);
            }
            let Some(letter) = rest.chars().next().filter(char::is_ascii_alphabetic) else {
                return Err(malformed(format!(
                    "Attribute expected, but found {}.",
                    match rest.chars().next() {
                        Some(found) => format!("invalid character \"{found}\""),
                        None => "end of string".to_owned(),
                    }
                )));
            };
            rest = attribute(letter, rest)?.1;
        };
        let (without_proof, proof) = proof;
        if nonce != self.nonce {
            return Err(
                fatal(SqlState::PROTOCOL_VIOLATION, "invalid SCRAM response")
                    .detail("Nonce does not match."),
            );
        }

        let verifier = &self.exchange.verifier;
        let signed = [self.signed.as_bytes(), without_proof.as_bytes()];
        let signature = hmac(&verifier.stored_key, &signed);
        let mut client_key = proof;
        for (byte, mask) in client_key.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        let right = Sha256::digest(client_key)[..] == verifier.stored_key;
        if !right || self.exchange.doomed {
            let user = &self.exchange.user;
            return Err(PgError::fatal(
                SqlState::INVALID_PASSWORD,
                format!("password authentication failed for user \"{user}\""),
            ));
        }
        Ok(format!(
            "v={}",
            BASE64.encode(hmac(&verifier.server_key, &signed))
        ))
    }
}

/// `Hi` of RFC 5802: PBKDF2 with one block.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let mut last = hmac(password, &[salt, &1_u32.to_be_bytes()]);
    let mut result = last;
    for _ in 1..iterations {
        last = hmac(password, &[&last]);
        for (byte, other) in result.iter_mut().zip(last) {
            *byte ^= other;
        }
    }
    result
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        hmac.update(part);
    }
    hmac.finalize().into_bytes().into()
}

/// The value of an attribute at the start of `text`, and what follows its comma (`read_attr_value`).
fn attribute(letter: char, text: &str) -> Result<(&str, &str), PgError> {
    let Some(rest) = text.strip_prefix(letter) else {
        let found = shown(text.chars().next());
        return Err(malformed(format!(
            "Expected attribute \"{letter}\" but found \"{found}\"."
        )));
    };
    let Some(rest) = rest.strip_prefix('=') else {
        return Err(malformed(format!(
            "Expected character \"=\" for attribute \"{letter}\"."
        )));
    };
    Ok(rest.split_once(',').unwrap_or((rest, "")))
}

/// `sanitize_char`: a character for an error's text.
fn shown(character: Option<char>) -> String {
    match character {
        Some(letter) if (' '..='~').contains(&letter) => format!("'{letter}'"),
        Some(other) => format!("0x{:02x}", u32::from(other)),
        None => "0x00".to_owned(),
    }
}

fn as_text(message: &[u8]) -> Result<&str, PgError> {
    if message.is_empty() {
        return Err(malformed("The message is empty."));
    }
    if message.contains(&0) {
        return Err(malformed("Message length does not match input length."));
    }
    std::str::from_utf8(message).map_err(|_| malformed("The message is not in UTF-8."))
}

fn fatal(code: SqlState, message: &'static str) -> PgError {
    PgError::fatal(code, message)
}

fn malformed(detail: impl Into<String>) -> PgError {
    fatal(SqlState::PROTOCOL_VIOLATION, "malformed SCRAM message").detail(detail)
}

fn unsupported(message: &'static str) -> PgError {
    fatal(SqlState::FEATURE_NOT_SUPPORTED, message)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    use super::*;

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_example_of_rfc_7677() {
        let mut salt = [0; 16];
        salt.copy_from_slice(&BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap());
        let mut exchange = Exchange::new(
            "user",
            Some(Verifier::new("pencil", salt)),
            [0; 18],
            &[0; 32],
        );
        exchange.nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned();
        let (first, proof) = exchange
            .client_first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
            .unwrap();
        assert_eq!(
            first,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = proof
            .client_final(
                b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                  p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            )
            .unwrap();
        assert_eq!(last, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    /// `CREATE ROLE … PASSWORD 'secret'` on a PostgreSQL 15.18 stored this.
    #[test]
    fn a_verifier_is_stored_as_by_postgresql() {
        let mut salt = [0; 16];
        salt.copy_from_slice(&BASE64.decode("ic3xrfduV7W4ZEUHNqddlA==").unwrap());
        assert_eq!(
            Verifier::new("secret", salt).to_string(),
            "SCRAM-SHA-256$4096:ic3xrfduV7W4ZEUHNqddlA==$UhKikO91beVMQAesFT1OZYaH7ypPqxTiuHRZSlfS0Sk=:\
             NdjsFfRX4stpFMLw35swkEmgP+37KiDQxSIHYZ/B2ao="
        );
    }

    fn exchange(password: &str, verifier: Option<Verifier>) -> Result<(), PgError> {
        let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let server = Exchange::new("app", verifier, [7; 18], &[9; 32]);
        let (first, proof) = server.client_first(client.message())?;
        client.update(first.as_bytes()).unwrap();
        let last = proof.client_final(client.message())?;
        client.finish(last.as_bytes()).unwrap();
        Ok(())
    }

    #[test]
    fn the_drivers_client_gets_in_with_the_right_password_only() {
        for password in ["secret", "", "naïve\u{a0}pass", "\u{7}bell"] {
            let verifier = Verifier::new(password, [3; 16]);
            assert_eq!(
                exchange(password, Some(verifier.clone())),
                Ok(()),
                "{password:?}"
            );
            let error = exchange("wrong", Some(verifier)).unwrap_err();
            assert_eq!(
                error.to_string(),
                "FATAL 28P01 password authentication failed for user \"app\""
            );
        }
    }

    #[test]
    fn an_unknown_user_fails_at_the_end_and_with_the_same_words() {
        let error = exchange("secret", None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "FATAL 28P01 password authentication failed for user \"app\""
        );
        let mock = Verifier::mock("app", &[9; 32]);
        assert_eq!(mock.salt, Verifier::mock("app", &[9; 32]).salt);
        assert_ne!(mock.salt, Verifier::mock("bpp", &[9; 32]).salt);
    }

    #[test]
    fn malformed_messages_are_protocol_violations() {
        let first = |message: &str| {
            let exchange = Exchange::new("app", None, [7; 18], &[9; 32]);
            let error = exchange.client_first(message.as_bytes()).unwrap_err();
            format!("{error} | {}", error.detail.as_deref().unwrap_or_default())
        };
        assert_eq!(
            first(""),
            "FATAL 08P01 malformed SCRAM message | The message is empty."
        );
        assert_eq!(
            first("x,,n=,r=abc"),
            "FATAL 08P01 malformed SCRAM message | Unexpected channel-binding flag \"'x'\"."
        );
        assert_eq!(
            first("n,,q=,r=abc"),
            "FATAL 08P01 malformed SCRAM message | Expected attribute \"n\" but found \"'q'\"."
        );
        assert_eq!(
            first("n,a=joe,n=,r=abc"),
            "FATAL 0A000 client uses authorization identity, but it is not supported | "
        );
        let (server_first, proof) = Exchange::new("app", None, [7; 18], &[9; 32])
            .client_first(b"n,,n=,r=abc")
            .unwrap();
        assert!(server_first.starts_with("r=abcBwcHBwcHBwcHBwcHBwcHBwcH,s="));
        let error = proof.client_final(b"c=biws,r=abc,p=AAAA").unwrap_err();
        assert_eq!(
            error.detail.as_deref(),
            Some("Malformed proof in client-final-message.")
        );
    }
}
