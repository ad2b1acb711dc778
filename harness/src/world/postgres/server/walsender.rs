//! A session that takes none of the slots: PostgreSQL counts sessions with `replication=database` apart from the others
//! (`max_wal_senders`), and runs SQL in them by the simple protocol. No smart stop waits for them.
//!
//! tokio-postgres has no such parameter, so it is added to the startup packet on its way.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The parameter, and the end of the packet.
const PARAMETER: &[u8] = b"replication\0database\0\0";

/// A socket whose first packet is a startup packet, which gets the parameter.
pub(super) struct Walsender {
    socket: TcpStream,
    state: State,
}

enum State {
    /// Nothing is written yet.
    New,
    /// The packet with the parameter, how much of it is written, and the length of the one that was given.
    Startup { packet: Vec<u8>, written: usize, given: usize },
    /// The rest is as it is given.
    Started,
}

impl Walsender {
    pub(super) fn new(socket: TcpStream) -> Walsender {
        Walsender { socket, state: State::New }
    }
}

/// The packet with the parameter. The driver gives it whole, since it is the first and small.
fn with_parameter(packet: &[u8]) -> io::Result<Vec<u8>> {
    let whole = packet.get(..4).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
    match packet {
        [.., 0] if whole.is_some_and(|length| length as usize == packet.len()) => {
            // Its last byte is the end that the parameter brings again.
            let mut longer = packet[..packet.len() - 1].to_vec();
            longer.extend_from_slice(PARAMETER);
            let length = u32::try_from(longer.len()).map_err(io::Error::other)?;
            longer[..4].copy_from_slice(&length.to_be_bytes());
            Ok(longer)
        }
        _ => Err(io::Error::other("the driver's first packet is no startup packet")),
    }
}

impl AsyncWrite for Walsender {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::New => {
                    this.state = State::Startup { packet: with_parameter(bytes)?, written: 0, given: bytes.len() };
                }
                State::Startup { packet, written, given } => {
                    *written += ready!(Pin::new(&mut this.socket).poll_write(context, &packet[*written..]))?;
                    if *written == packet.len() {
                        let given = *given;
                        this.state = State::Started;
                        return Poll::Ready(Ok(given));
                    }
                }
                State::Started => return Pin::new(&mut this.socket).poll_write(context, bytes),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

impl AsyncRead for Walsender {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_is_in_the_packet() {
        let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
        packet.extend_from_slice(b"user\0me\0\0");
        let length = u8::try_from(packet.len()).expect("it is short");
        packet[3] = length;
        let longer = with_parameter(&packet).expect("it is one");
        assert_eq!(longer[3], length + 21);
        assert_eq!(usize::from(longer[3]), longer.len());
        assert_eq!(&longer[8..], b"user\0me\0replication\0database\0\0");
        packet.push(0);
        assert!(with_parameter(&packet).is_err(), "its length is another one");
    }
}
