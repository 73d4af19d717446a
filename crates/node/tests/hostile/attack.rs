//! What an attack is, and what the attacker met with.

use crate::arena::Arena;
use crate::peer::Peer;
use crate::wire::Hostile;
use std::pin::Pin;
use std::time::Duration;

/// What must become of the attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// It is refused in the handshake, or its connection is cut, or it is banned, in the attack.
    Cut,
    /// It is cut in the end: what it does is told from a bad line only by time.
    CutLater,
    /// It is not cut: an honest node may do the same.
    Stay,
    /// Either: whether it is one too many depends on how fast it is.
    Either,
}

type Running<'a> = Pin<Box<dyn Future<Output = Met> + Send + 'a>>;

/// See the module.
pub struct Attack {
    pub name: &'static str,
    /// In one sentence.
    pub sentence: &'static str,
    pub must: Must,
    pub run: for<'a> fn(&'a Arena) -> Running<'a>,
}

/// Makes an [`Attack`] of an async function of the same name.
#[macro_export]
macro_rules! attack {
    ($module:ident :: $name:ident, $must:ident, $sentence:literal) => {
        $crate::attack::Attack {
            name: stringify!($name),
            sentence: $sentence,
            must: $crate::attack::Must::$must,
            run: |arena| Box::pin($crate::$module::$name(arena)),
        }
    };
}

/// A connection that is held until the end of the test, with its lanes.
pub struct Held {
    pub hostile: Hostile,
    _lanes: [yamux::Stream; 2],
}

/// What became of the attacker.
pub struct Met {
    pub cut: bool,
    pub how: String,
    pub held: Option<Held>,
}

impl Met {
    /// It was refused before it was a peer.
    pub fn refused(how: String) -> Self {
        Self { cut: true, how, held: None }
    }

    /// There was no one peer of which something could have become.
    pub fn note(how: String) -> Self {
        Self { cut: false, how, held: None }
    }

    /// To be seen at the end.
    pub fn later(hostile: Hostile, lanes: [yamux::Stream; 2]) -> Self {
        let held = Some(Held { hostile, _lanes: lanes });
        Self { cut: false, how: "to be seen at the end".into(), held }
    }

    /// With figures.
    pub fn noting(mut self, figures: String) -> Self {
        self.how = format!("{} ({figures})", self.how);
        self
    }
}

/// Looks what became of a peer: closed by the node, and refused when it dials again?
pub async fn met(arena: &Arena, peer: Peer) -> Met {
    peer.wait_for_end().await;
    let (node, key, closed) = (peer.node, peer.key, peer.is_closed());
    drop(peer);
    tokio::time::sleep(Duration::from_millis(50)).await;
    match Peer::join(arena, node, key).await {
        Err(error) => {
            let text = error.to_string();
            let text = text.strip_prefix("refused: 3 ").unwrap_or(&text).to_owned();
            Met { cut: text.contains("banned"), how: text, held: None }
        }
        Ok(_) if closed => Met { cut: true, how: "cut, and welcome again".into(), held: None },
        Ok(_) => Met { cut: false, how: "stays".into(), held: None },
    }
}
