//! Who a member is: the content of `corestone.json` in its data directory.
//!
//! Written at the member's birth, and again only to raise the epoch when a new cluster is forced.
//! Invariants: ids and birth never change; a file of a newer format version is refused, and so is a
//! field that is not known, because it may promise something.
//! Source: replication.md, Membership 4 and 5.

use serde::{Deserialize, Serialize};
use shard::config::{InitialMember, Origin};

/// Version of the data directory's layout and of the formats in its files.
pub const FORMAT_VERSION: u32 = 1;

/// A member's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Version of the layout.
    pub format_version: u32,
    /// Random, drawn when the directory was made.
    #[serde(with = "hex")]
    pub birth_id: u64,
    /// Cluster id.
    #[serde(with = "hex")]
    pub cluster_id: u64,
    /// Member id.
    #[serde(with = "hex")]
    pub member_id: u64,
    /// Name at its birth.
    pub name: String,
    /// Shards at its birth.
    pub cores: u16,
    /// How often a new cluster was forced on this directory.
    #[serde(default)]
    pub epoch: u64,
    /// How it was born; not there in directories that are older than clusters of several members.
    #[serde(default)]
    pub birth: Option<Birth>,
}

/// How a member was born.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Birth {
    /// With the cluster, as one of these.
    Founder(Vec<KnownMember>),
    /// Later; these were there.
    Joiner(Vec<KnownMember>),
}

/// A member as another knows it at its birth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownMember {
    /// Its id.
    #[serde(with = "hex")]
    pub id: u64,
    /// Its name in --initial-cluster.
    pub name: String,
    /// Its peer URLs there.
    pub peer_urls: Vec<String>,
}

impl Identity {
    /// Reads the text of the file; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Identity, String> {
        // The version is read first: a newer file may have fields that are not known here.
        let loose: serde_json::Value =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        match loose.get("format_version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(FORMAT_VERSION) => {}
            Some(version) => {
                return Err(format!(
                    "it has format version {version}, this version of corestone knows \
                     {FORMAT_VERSION}"
                ));
            }
            None => return Err("it has no format version".to_owned()),
        }
        serde_json::from_value(loose).map_err(|error| error.to_string())
    }

    /// The text of the file.
    pub fn render(&self) -> String {
        assert!(self.format_version == FORMAT_VERSION);
        let mut text = serde_json::to_string_pretty(self)
            .expect("an identity is numbers and text, which JSON can hold");
        text.push('\n');
        text
    }

    /// How it was born, in the shard's words. A directory that does not say it holds the only
    /// founder of its cluster, at these URLs.
    pub fn origin(&self, peer_urls: &[String]) -> Origin {
        match &self.birth {
            Some(Birth::Founder(members)) => Origin::Founder { members: told(members) },
            Some(Birth::Joiner(members)) => Origin::Joiner { members: told(members) },
            None => Origin::Founder {
                members: vec![InitialMember {
                    id: self.member_id,
                    name: self.name.clone(),
                    peer_urls: peer_urls.to_vec(),
                }],
            },
        }
    }
}

fn told(members: &[KnownMember]) -> Vec<InitialMember> {
    let told = |member: &KnownMember| InitialMember {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
    };
    members.iter().map(told).collect()
}

impl From<InitialMember> for KnownMember {
    fn from(member: InitialMember) -> KnownMember {
        KnownMember { id: member.id, name: member.name, peer_urls: member.peer_urls }
    }
}

/// Ids are written as etcd prints them: hexadecimal without a prefix.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(id: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{id:016x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(id: u64, name: &str) -> KnownMember {
        let peer_urls = vec![format!("http://{name}:2380")];
        KnownMember { id, name: name.to_owned(), peer_urls }
    }

    fn identity(birth: Option<Birth>) -> Identity {
        Identity {
            format_version: FORMAT_VERSION,
            birth_id: u64::MAX,
            cluster_id: 0xcdf8_1819_4e3a_8c32,
            member_id: 2,
            name: "m".to_owned(),
            cores: 1,
            epoch: 3,
            birth,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for birth in [
            None,
            Some(Birth::Founder(vec![known(1, "a"), known(2, "m")])),
            Some(Birth::Joiner(vec![known(1, "a")])),
        ] {
            let identity = identity(birth);
            assert_eq!(Identity::parse(&identity.render()), Ok(identity));
        }
    }

    #[test]
    fn a_directory_of_one_member_does_not_say_how_it_was_born() {
        let text = "{\"format_version\": 1, \"birth_id\": \"0000000000000001\", \"cluster_id\": \
                    \"cdf818194e3a8c32\", \"member_id\": \"8e9e05c52164694d\", \"name\": \"m\", \
                    \"cores\": 2}";
        let identity = Identity::parse(text).unwrap();
        assert_eq!(identity.epoch, 0);
        let urls = ["http://localhost:2380".to_owned()];
        let Origin::Founder { members } = identity.origin(&urls) else { panic!("a founder") };
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].id, 0x8e9e_05c5_2164_694d);
        assert_eq!(members[0].peer_urls, urls);
    }

    #[test]
    fn founders_and_joiners_keep_whom_they_were_born_among() {
        let urls = ["http://elsewhere:1".to_owned()];
        let joiner = identity(Some(Birth::Joiner(vec![known(1, "a")])));
        let Origin::Joiner { members } = joiner.origin(&urls) else { panic!("a joiner") };
        assert_eq!(members[0].peer_urls, ["http://a:2380"]);
        let founder = identity(Some(Birth::Founder(vec![known(1, "a"), known(2, "m")])));
        let Origin::Founder { members } = founder.origin(&urls) else { panic!("a founder") };
        assert_eq!(members.len(), 2);
    }

    #[test]
    fn a_field_that_is_not_known_is_refused() {
        let text = identity(None).render().replace("\"cores\"", "\"encryption\": 1, \"cores\"");
        assert!(Identity::parse(&text).unwrap_err().contains("encryption"));
    }
}
