//! A WebSocket connection over a plain socket: short text messages, one at a time.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub struct WebSocket(TcpStream);

/// A text frame, masked as a client's must be.
pub fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((text.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]); // masked with zeros
    frame.extend(text.as_bytes());
    frame
}

impl WebSocket {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the node listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a positive timeout");
        Self::upgrade(stream, address)
    }

    /// On a connection that speaks HTTP.
    pub fn upgrade(mut stream: TcpStream, address: SocketAddr) -> Self {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("the request is taken");
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("an answer");
            answer.push(byte[0]);
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        Self(stream)
    }

    /// Sends one text frame.
    pub fn send(&mut self, text: &str) {
        self.0.write_all(&frame(text)).expect("the message is taken");
    }

    /// The socket, for a test that does not keep to the protocol.
    pub fn into_stream(self) -> TcpStream {
        self.0
    }

    /// The next text message as JSON.
    pub fn next(&mut self) -> Value {
        loop {
            let [kind, length] = self.bytes(2)[..] else { unreachable!("two bytes were read") };
            let length = match length & 0x7f {
                126 => u16::from_be_bytes(self.bytes(2).try_into().expect("two bytes")).into(),
                127 => u64::from_be_bytes(self.bytes(8).try_into().expect("eight bytes")) as usize,
                short => short.into(),
            };
            let payload = self.bytes(length);
            if kind & 0x0f == 1 {
                return serde_json::from_slice(&payload).expect("valid JSON");
            }
        }
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).expect("a message");
        bytes
    }
}
