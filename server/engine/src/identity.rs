//! Who a node is, and which cluster it belongs to: the one small file beside the log.
//!
//! A node's identity is its configured name plus a random *incarnation*, drawn at its first start and written down
//! before it answers anyone. Votes and acknowledgements are promises of an incarnation, not of a name: a node whose
//! disk was emptied comes back as a new incarnation and cannot speak for the old one (a delayed vote of the old one
//! could otherwise elect two leaders in a term).
//!
//! # Format
//!
//! Text, so that an operator can read it, replaced atomically as a whole:
//!
//! ```text
//! quorate identity 1
//! name n1
//! incarnation 53cf0a1b77e0d2f1
//! cluster 6d0f9f3b2a5c41e8a4a9b86c27d0e3f5
//! member n1 53cf0a1b77e0d2f1
//! member n2 0b8e61aa3f4c9d27
//! member n3 91d2c45e6a7b8f03
//! crc32c 8f2e11c4
//! ```
//!
//! `cluster` and `member` lines are absent until the cluster is bootstrapped. The last line is the CRC32C of everything
//! before it, in hexadecimal as every number here.

use std::collections::BTreeSet;
use std::io;

use raft::NodeId;

use crate::disk::{self, Disk};

/// The file's name in the data directory.
pub const FILE_NAME: &str = "identity";

/// More than 1,000 members with the longest names; a larger file is not ours.
pub const FILE_BYTES_MAX: usize = 256 * 1024;

/// The longest name of a node: a DNS label.
pub const NAME_BYTES_MAX: usize = 63;

const HEADING: &str = "quorate identity 1";

/// A member of the first configuration.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Member {
    /// The configured name.
    pub name: String,
    /// The random number that the node drew at its first start; it names the node in the log.
    pub incarnation: NodeId,
}

/// A bootstrapped cluster: its id follows from its first members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    id: [u8; 16],
    members: Vec<Member>,
}

impl Cluster {
    /// The cluster whose first configuration has these members, in any order. Every node that knows the same members
    /// computes the same id, so a bootstrap that is repeated after a crash gives the same cluster.
    #[must_use]
    pub fn new(mut members: Vec<Member>) -> Self {
        members.sort();
        let text: String = members.iter().map(member_line).collect();
        Self { id: xxhash_rust::xxh3::xxh3_128(text.as_bytes()).to_be_bytes(), members }
    }

    /// Whether the members can be a cluster: there are some, and no two have the same name or incarnation.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let names: BTreeSet<&str> = self.members.iter().map(|member| member.name.as_str()).collect();
        let incarnations: BTreeSet<NodeId> = self.members.iter().map(|member| member.incarnation).collect();
        !self.members.is_empty() && names.len() == self.members.len() && incarnations.len() == self.members.len()
    }

    /// The cluster's id.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The members of the first configuration, sorted by name.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of this name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

/// Who a node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The node's own name and incarnation.
    pub member: Member,
    /// The cluster that it belongs to; none before the bootstrap.
    pub cluster: Option<Cluster>,
}

/// Why an identity could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error("{FILE_NAME}: cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What failed.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("{FILE_NAME}: line {line}: {reason}")]
    Damaged {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// The data directory is another node's.
    #[error("{FILE_NAME}: this directory belongs to the node {found}, not to {expected}")]
    AnotherNode {
        /// The configured name.
        expected: String,
        /// The name in the file.
        found: String,
    },
}

impl Identity {
    /// Reads the identity of the node `name` from its disk; none if there is none yet.
    ///
    /// # Errors
    ///
    /// Fails if the disk does, if the file is damaged, or if it is another node's.
    pub fn load(disk: &dyn Disk, name: &str) -> Result<Option<Self>, IdentityError> {
        let Some(identity) = Self::read(disk)? else { return Ok(None) };
        if identity.member.name != name {
            return Err(IdentityError::AnotherNode { expected: name.to_owned(), found: identity.member.name });
        }
        Ok(Some(identity))
    }

    /// Reads the identity of whatever node the disk belongs to; none if there is none yet.
    ///
    /// # Errors
    ///
    /// Fails if the disk does, or if the file is damaged.
    pub fn read(disk: &dyn Disk) -> Result<Option<Self>, IdentityError> {
        let bytes = disk::read_file(disk, FILE_NAME, FILE_BYTES_MAX)
            .map_err(|source| IdentityError::Io { action: "read", source })?;
        let Some(bytes) = bytes else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|_| damaged(1, "not UTF-8"))?;
        Self::parse(&text).map(Some)
    }

    /// Writes the identity, replacing the one before it atomically; it is durable on return.
    ///
    /// # Errors
    ///
    /// Fails if the disk does; the old identity or the new one is there then, never a mixture.
    pub fn store(&self, disk: &dyn Disk) -> Result<(), IdentityError> {
        disk::write_file_atomically(disk, FILE_NAME, self.to_text().as_bytes())
            .map_err(|source| IdentityError::Io { action: "write", source })
    }

    fn to_text(&self) -> String {
        let mut text = format!("{HEADING}\nname {}\nincarnation {:016x}\n", self.member.name, self.incarnation());
        if let Some(cluster) = &self.cluster {
            text.push_str(&format!("cluster {:032x}\n", u128::from_be_bytes(cluster.id)));
            text.extend(cluster.members.iter().map(member_line));
        }
        let checksum = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("crc32c {checksum:08x}\n"));
        text
    }

    fn incarnation(&self) -> u64 {
        self.member.incarnation.get()
    }

    fn parse(text: &str) -> Result<Self, IdentityError> {
        let lines: Vec<&str> = text.lines().collect();
        let [content @ .., last] = lines.as_slice() else { return Err(damaged(1, "the file is empty")) };
        let checksum = field(last, "crc32c", lines.len())?;
        let covered = text.strip_suffix('\n').and_then(|text| text.strip_suffix(last));
        if covered.is_none_or(|covered| format!("{:08x}", crc32c::crc32c(covered.as_bytes())) != checksum) {
            return Err(damaged(lines.len(), "the checksum does not match"));
        }
        let [heading, name, incarnation, rest @ ..] = content else { return Err(damaged(1, "lines are missing")) };
        if *heading != HEADING {
            return Err(damaged(1, "not an identity of a known version"));
        }
        let member = Member {
            name: field(name, "name", 2)?.to_owned(),
            incarnation: incarnation_of(field(incarnation, "incarnation", 3)?, 3)?,
        };
        let cluster = match rest {
            [] => None,
            [id, members @ ..] => Some(parse_cluster(field(id, "cluster", 4)?, members)?),
        };
        if cluster.as_ref().is_some_and(|cluster: &Cluster| cluster.member(&member.name) != Some(&member)) {
            return Err(damaged(4, "the cluster does not have this node"));
        }
        Ok(Self { member, cluster })
    }
}

fn parse_cluster(id: &str, lines: &[&str]) -> Result<Cluster, IdentityError> {
    const FIRST_LINE: usize = 5;
    let mut members = Vec::with_capacity(lines.len());
    for (line, text) in (FIRST_LINE..).zip(lines) {
        let (name, incarnation) = field(text, "member", line)?
            .split_once(' ')
            .ok_or_else(|| damaged(line, "a member needs a name and an incarnation"))?;
        members.push(Member { name: name.to_owned(), incarnation: incarnation_of(incarnation, line)? });
    }
    let cluster = Cluster::new(members);
    if format!("{:032x}", u128::from_be_bytes(cluster.id)) != id {
        return Err(damaged(FIRST_LINE - 1, "the cluster's id does not follow from its members"));
    }
    if !cluster.is_sound() {
        return Err(damaged(FIRST_LINE, "two members have the same name or incarnation"));
    }
    Ok(cluster)
}

fn member_line(member: &Member) -> String {
    format!("member {} {:016x}\n", member.name, member.incarnation.get())
}

fn field<'a>(line: &'a str, name: &str, number: usize) -> Result<&'a str, IdentityError> {
    line.strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(' '))
        .ok_or_else(|| damaged(number, &format!("expected the field {name}")))
}

fn incarnation_of(text: &str, line: usize) -> Result<NodeId, IdentityError> {
    u64::from_str_radix(text, 16)
        .ok()
        .and_then(NodeId::new)
        .ok_or_else(|| damaged(line, "an incarnation is a hexadecimal number other than 0"))
}

fn damaged(line: usize, reason: &str) -> IdentityError {
    IdentityError::Damaged { line, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    fn member(name: &str, incarnation: u64) -> Member {
        Member { name: name.to_owned(), incarnation: NodeId::new(incarnation).expect("not zero") }
    }

    fn bootstrapped() -> Identity {
        let cluster = Cluster::new(vec![member("n2", 2), member("n1", 1), member("n3", u64::MAX)]);
        Identity { member: member("n1", 1), cluster: Some(cluster) }
    }

    #[test]
    fn what_was_stored_is_loaded() {
        let disk = MemoryDisk::new();
        assert_eq!(Identity::load(&disk, "n1").expect("an empty disk can be read"), None);
        for identity in [Identity { member: member("n1", 7), cluster: None }, bootstrapped()] {
            identity.store(&disk).expect("the disk works");
            assert_eq!(Identity::load(&disk, "n1").expect("the file is whole"), Some(identity));
        }
    }

    #[test]
    fn the_clusters_id_follows_from_its_members_in_any_order() {
        let forwards = Cluster::new(vec![member("n1", 1), member("n2", 2)]);
        let backwards = Cluster::new(vec![member("n2", 2), member("n1", 1)]);
        assert_eq!(forwards, backwards);
        assert_ne!(forwards.id(), Cluster::new(vec![member("n1", 1), member("n2", 3)]).id());
    }

    #[test]
    fn a_cluster_has_distinct_members() {
        let sound = |members: &[Member]| Cluster::new(members.to_vec()).is_sound();
        assert!(sound(&[member("n1", 1), member("n2", 2)]));
        assert!(!sound(&[]));
        assert!(!sound(&[member("n1", 1), member("n1", 2)]));
        assert!(!sound(&[member("n1", 1), member("n2", 1)]));
    }

    #[test]
    fn another_nodes_directory_is_refused() {
        let disk = MemoryDisk::new();
        bootstrapped().store(&disk).expect("the disk works");
        let error = Identity::load(&disk, "n2").expect_err("the file is n1's");
        assert_eq!(error.to_string(), "identity: this directory belongs to the node n1, not to n2");
    }

    fn sealed(content: &str) -> String {
        format!("{content}crc32c {:08x}\n", crc32c::crc32c(content.as_bytes()))
    }

    #[test]
    fn nonsense_with_a_right_checksum_is_found() {
        let head = "quorate identity 1\nname n1\nincarnation 0000000000000001\n";
        assert!(Identity::parse(&sealed(head)).is_ok());
        let alone = |member: &Member| {
            let id = u128::from_be_bytes(Cluster::new(vec![member.clone()]).id());
            sealed(&format!("{head}cluster {id:032x}\n{}", member_line(member)))
        };
        assert!(Identity::parse(&alone(&member("n1", 1))).is_ok());
        for other in [member("n1", 2), member("n2", 1)] {
            let error = Identity::parse(&alone(&other)).expect_err("the cluster does not have this node");
            assert_eq!(error.to_string(), "identity: line 4: the cluster does not have this node");
        }
        for text in ["", "\n", "crc32c 00000000", "crc32c 00000000\n", "crc32c", &sealed(""), &sealed("name n1\n")] {
            assert!(Identity::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let text = bootstrapped().to_text();
        for cut in 0..text.len() {
            assert!(Identity::parse(&text[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(flipped) = String::from_utf8(bytes) {
                assert!(Identity::parse(&flipped).is_err(), "bit {bit} flipped");
            }
        }
    }
}
