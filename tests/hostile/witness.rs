//! The client that everybody else must not disturb: what it wrote stays, and it is served.

use ::tests::process::Member;
use corestone_client::{Client, Error, Options};

use crate::{PATIENCE, binary_endpoint};

/// See the file's head.
pub struct Witness {
    /// Key and value of what was acknowledged.
    written: Vec<(String, Vec<u8>)>,
}

impl Witness {
    /// Writes its first keys.
    pub fn start(member: &Member) -> Witness {
        let mut witness = Witness { written: Vec::new() };
        witness.write(member, KEYS, 200);
        witness
    }

    /// Writes `count` more keys, with values of this size.
    pub fn write(&mut self, member: &Member, count: usize, value_bytes: usize) {
        let first = self.written.len();
        block_on(async {
            let client = connect(member).await;
            for slot in first..first + count {
                let (key, value) = (format!("witness/{slot:06}"), value_of(slot, value_bytes));
                client.put(&key, &value).await.unwrap();
                self.written.push((key, value));
            }
        });
    }

    /// Writes until a write fails; the error.
    ///
    /// # Panics
    /// When `count` writes did not fail.
    pub fn write_until_refused(
        &mut self,
        member: &Member,
        count: usize,
        value_bytes: usize,
    ) -> Error {
        let first = self.written.len();
        block_on(async {
            let client = connect(member).await;
            for slot in first..first + count {
                let (key, value) = (format!("witness/{slot:06}"), value_of(slot, value_bytes));
                match client.put(&key, &value).await {
                    Ok(_) => self.written.push((key, value)),
                    Err(error) => return error,
                }
            }
            panic!("{count} values of {value_bytes} bytes were all taken")
        })
    }

    /// The member serves: everything written is there and one more write is taken.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(&mut self, member: &mut Member) {
        assert!(member.is_running(), "the process ended:\n{}", member.log().tail(20));
        self.check_reads(member);
        self.write(member, 1, 10);
    }

    /// Everything written is there.
    pub fn check_reads(&self, member: &Member) {
        block_on(async {
            let client = connect(member).await;
            for (key, value) in &self.written {
                let answer = client.get(key).await.unwrap();
                let found = answer.kvs.first().unwrap_or_else(|| panic!("{key} is lost"));
                assert!(found.value == value, "{key} has another value");
            }
        });
    }

    /// Reads everything from a member that may refuse some of it, but answers nothing wrong; the
    /// texts of its refusals.
    pub fn refused_reads(&self, member: &Member) -> Vec<String> {
        let mut refused = Vec::new();
        block_on(async {
            let client = connect(member).await;
            for (key, value) in &self.written {
                match client.get(key).await {
                    Ok(answer) => {
                        let found = answer.kvs.first().unwrap_or_else(|| panic!("{key} is lost"));
                        assert!(found.value == value, "{key} has another value");
                    }
                    Err(Error::Status { message, .. }) => refused.push(message),
                    Err(error) => panic!("{key}: {error}: {}", member.log().tail(5)),
                }
            }
        });
        refused
    }

    /// Keys written.
    pub fn count(&self) -> usize {
        self.written.len()
    }
}

fn value_of(slot: usize, size_bytes: usize) -> Vec<u8> {
    let mark = format!("value-of-{slot:06}-");
    mark.bytes().cycle().take(size_bytes).collect()
}

/// A client with long patience.
pub async fn connect(member: &Member) -> Client {
    let options = Options { request_timeout: PATIENCE, ..Options::new([binary_endpoint(member)]) };
    Client::connect_with(options).await.unwrap()
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

const KEYS: usize = 50;
