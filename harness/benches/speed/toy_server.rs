//! The least a server can do: startup, and the same answer to every simple query. It is the yardstick (the "ceiling"):
//! what tokio-postgres costs with nothing of ours under it.

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

fn message(out: &mut BytesMut, kind: u8, body: &[u8]) {
    out.put_u8(kind);
    out.put_u32(u32::try_from(body.len()).expect("short messages") + 4);
    out.put_slice(body);
}

fn ready(out: &mut BytesMut) {
    message(out, b'Z', b"I");
}

/// Serves one connection until its end.
pub async fn serve(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut input = BytesMut::with_capacity(8192);
    let mut output = BytesMut::with_capacity(8192);
    let mut started = false;
    loop {
        while let Some((kind, body)) = next_message(&mut input, started) {
            match (started, kind) {
                (false, _) => {
                    started = true;
                    message(&mut output, b'R', &0u32.to_be_bytes());
                    message(&mut output, b'S', b"client_encoding\0UTF8\0");
                    message(&mut output, b'K', &[0, 0, 0, 1, 0, 0, 0, 2]);
                    ready(&mut output);
                }
                (true, b'Q') => {
                    if body.len() > 1 {
                        message(&mut output, b'T', b"\0\x01?column?\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0");
                        message(&mut output, b'D', b"\0\x01\0\0\0\x011");
                        message(&mut output, b'C', b"SELECT 1\0");
                    } else {
                        message(&mut output, b'I', b"");
                    }
                    ready(&mut output);
                }
                (true, b'X') => return Ok(()),
                (true, other) => return Err(std::io::Error::other(format!("message {other}"))),
            }
        }
        if !output.is_empty() {
            socket.write_all(&output).await?;
            output.clear();
        }
        if socket.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

fn next_message(input: &mut BytesMut, started: bool) -> Option<(u8, BytesMut)> {
    let head = usize::from(started);
    let length = input.get(head..head + 4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    if input.len() < head + length {
        return None;
    }
    let kind = if started { input[0] } else { 0 };
    input.advance(head + 4);
    Some((kind, input.split_to(length - 4)))
}
