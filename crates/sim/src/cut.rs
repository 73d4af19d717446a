//! A liar's block that says of its parent what the liar likes, and is well made otherwise: no engine
//! would ask for it, so it is built on a copy of the liar's chain. The liar votes for it too.

use crate::byzantine::{BROKEN, Conduct};
use crate::host::{Machine, Wire, genesis_hash, open_chain};
use crate::world::World;
use alloy_primitives::{B256, Bytes};
use landfall_chain::store::MemoryViews;
use landfall_consensus::{Body, FinalityProof, pbft};
use landfall_evm::Attributes;
use landfall_light::verify_proof;
use landfall_replica::Signer;
use landfall_types::{Block, Certificate, Extension, Position, Step, Vote};

impl World<'_> {
    /// A block without transactions in place of one that the liar made; none where that carries no
    /// certificate. It is marked if honest nodes must refuse it.
    pub(crate) fn with_cut_certificate(&self, slot: usize, own: &Block) -> Option<Block> {
        let it = &self.slots[slot];
        let host = it.host.as_ref().filter(|_| !it.ailing)?;
        let mut extension = Extension::from_bytes(&own.extension).ok()?;
        let certificate = alloy_rlp::decode_exact::<Certificate>(&extension.data).ok()?;
        let (cut, valid) = self.other_certificate(slot, certificate)?;
        extension.data = alloy_rlp::encode(cut).into();
        let views = MemoryViews::default();
        let disk = it.disk.fork();
        disk.restart();
        disk.no_more_faults();
        let machine = Machine { disk: &disk, views: &views, signer: &it.signer, id: it.id };
        let header = own.header.inner();
        let attributes = Attributes {
            beneficiary: header.beneficiary,
            gas_limit: header.gas_limit,
            prev_randao: header.mix_hash,
            extra_data: Bytes::from_static(if valid { b"" } else { BROKEN }),
            extension,
            ..Attributes::default()
        };
        let mut chain = open_chain(&machine, &self.setup).expect("the log of a node that runs");
        // Finality may have left the parent behind.
        let built = chain.build(own.parent(), attributes, |_| ()).ok()?;
        let mut block = built.block.clone();
        let seal = it.signer.sign_block(block.hash(), genesis_hash(host));
        block.seal = Bytes::copy_from_slice(&seal.0);
        Some(block)
    }

    /// What everybody is told in place of what the liar says of its own block.
    pub(crate) fn for_the_cut_block(
        &self,
        slot: usize,
        conduct: &Conduct,
        wire: &Wire,
    ) -> Option<Vec<Wire>> {
        let Wire::Engine { epoch, vote: Some(vote), body: Body::Pbft(body) } = wire else {
            return None;
        };
        let (own, cut) = (conduct.own.as_ref()?, conduct.cut.as_ref()?);
        if vote.vote.hash != own.hash() {
            return None;
        }
        let vote = Vote { hash: cut.hash(), ..vote.vote };
        let said = self.engine_message(slot, *epoch, vote, body.clone())?;
        Some(match body {
            pbft::Message::Proposal { .. } => vec![said, Wire::Block(cut.clone())],
            pbft::Message::Prepare => {
                let position = Position { step: Step::Commit, ..vote.position };
                let commit = Vote { position, context: B256::ZERO, ..vote };
                let commit = self.engine_message(slot, *epoch, commit, pbft::Message::Commit)?;
                vec![said, commit]
            }
            pbft::Message::Commit => vec![said],
            pbft::Message::RoundChange { .. } => return None,
        })
    }

    /// Another certificate, and whether it is one.
    fn other_certificate(&self, slot: usize, mut it: Certificate) -> Option<(Certificate, bool)> {
        let host = self.slots[slot].host.as_ref()?;
        let epoch = host.epochs().iter().find(|epoch| epoch.number == it.vote.position.epoch)?;
        let proves = |it: &Certificate| {
            verify_proof(epoch, &FinalityProof { certificate: it.clone() }).is_ok()
        };
        match self.now % 4 {
            // The least that will do.
            0 => {
                for signer in it.signers().copied().collect::<Vec<_>>() {
                    let mut less = it.clone();
                    less.signatures.retain(|one| one.signer != signer);
                    if proves(&less) {
                        it = less;
                    }
                }
                return Some((it, true));
            }
            // Less.
            1 => {
                while proves(&it) {
                    it.signatures.pop();
                }
            }
            // Of a round in which nobody committed.
            2 => it.vote.position.round += 1,
            // One member's name under another one's commit.
            _ => it.signatures[0].signature = it.signatures[1].signature,
        }
        Some((it, false))
    }
}
