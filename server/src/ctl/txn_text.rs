//! The text of a transaction: compares, a blank line, requests for success, a blank line, requests
//! for failure, a blank line.
//!
//! ```text
//! mod("key1") > "0"
//!
//! put key1 "overwrote-key1"
//!
//! get key1
//! ```
//!
//! A compare is `target("key") op "value"`: targets c/create, m/mod, ver/version, val/value and
//! lease (its value in hexadecimal, as everywhere else), ops =, !=, <, >.

use super::arguments::{TxnLine, TxnOp};
use super::commands::{OwnedDelete, OwnedPut, OwnedRange};
use super::quoted::{unquote, words};
use super::{EXIT_INVALID_INPUT, Failure};
use clap::Parser;
use corestone_client::{CompareResult, CompareTarget, Guard, Operand, RequestOp, TxnRequest};
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::os::unix::ffi::OsStringExt;

/// A transaction as it was read.
#[derive(Debug, Default)]
pub(super) struct TxnText {
    compares: Vec<OwnedCompare>,
    success: Vec<OwnedOp>,
    failure: Vec<OwnedOp>,
}

#[derive(Debug)]
struct OwnedCompare {
    key: Vec<u8>,
    result: CompareResult,
    operand: OwnedOperand,
}

#[derive(Debug)]
enum OwnedOperand {
    Version(i64),
    Create(i64),
    Mod(i64),
    Lease(i64),
    Value(Vec<u8>),
}

#[derive(Debug)]
enum OwnedOp {
    Put(OwnedPut),
    Get(OwnedRange),
    Del(OwnedDelete),
}

impl TxnText {
    /// Reads a transaction; prompts go to `prompts` if there is somebody to read them.
    pub(super) fn read(
        input: &mut impl BufRead,
        mut prompts: Option<&mut dyn Write>,
    ) -> Result<TxnText, Failure> {
        let mut text = TxnText::default();
        let mut prompt = |what: &str| match &mut prompts {
            Some(prompts) => writeln!(prompts, "{what}"),
            None => Ok(()),
        };
        prompt("compares:")?;
        for line in section(input)? {
            text.compares.push(compare(&line)?);
        }
        prompt("success requests (get, put, del):")?;
        for line in section(input)? {
            text.success.push(op(&line)?);
        }
        prompt("failure requests (get, put, del):")?;
        for line in section(input)? {
            text.failure.push(op(&line)?);
        }
        Ok(text)
    }

    /// What is sent.
    pub(super) fn request(&self) -> TxnRequest<'_> {
        TxnRequest {
            compare: self.compares.iter().map(OwnedCompare::request).collect(),
            success: self.success.iter().map(OwnedOp::request).collect(),
            failure: self.failure.iter().map(OwnedOp::request).collect(),
        }
    }
}

impl OwnedCompare {
    fn request(&self) -> Guard<'_> {
        let (target, operand) = match &self.operand {
            OwnedOperand::Version(number) => (CompareTarget::Version, Operand::Version(*number)),
            OwnedOperand::Create(number) => {
                (CompareTarget::Create, Operand::CreateRevision(*number))
            }
            OwnedOperand::Mod(number) => (CompareTarget::Mod, Operand::ModRevision(*number)),
            OwnedOperand::Lease(id) => (CompareTarget::Lease, Operand::Lease(*id)),
            OwnedOperand::Value(value) => (CompareTarget::Value, Operand::Value(value)),
        };
        Guard { result: self.result, target, key: &self.key, range_end: b"", operand }
    }
}

impl OwnedOp {
    fn request(&self) -> RequestOp<'_> {
        match self {
            OwnedOp::Put(put) => RequestOp::Put(put.request()),
            OwnedOp::Get(range) => RequestOp::Range(range.request()),
            OwnedOp::Del(delete) => RequestOp::DeleteRange(delete.request()),
        }
    }
}

/// The lines up to the next blank one, which must be there.
fn section(input: &mut impl BufRead) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let size = input
            .read_line(&mut line)
            .map_err(|error| Failure::new(EXIT_INVALID_INPUT, error.to_string()))?;
        if size == 0 || !line.ends_with('\n') {
            return Err(Failure::new(EXIT_INVALID_INPUT, "EOF"));
        }
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(line.to_owned());
    }
}

fn compare(line: &str) -> Result<OwnedCompare, Failure> {
    let malformed = || Failure::new(EXIT_INVALID_INPUT, format!("malformed comparison: {line}"));
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let (key, rest) = unquote(rest.trim_start()).ok_or_else(malformed)?;
    let rest = rest.trim_start().strip_prefix(')').ok_or_else(malformed)?.trim_start();
    let op_size = rest.find(['"', '`', ' ']).ok_or_else(malformed)?;
    let result = match &rest[..op_size] {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => return Err(malformed()),
    };
    let (value, rest) = unquote(rest[op_size..].trim_start()).ok_or_else(malformed)?;
    if !rest.trim().is_empty() {
        return Err(malformed());
    }
    let number = |radix: u32| {
        let text = std::str::from_utf8(&value).ok();
        let parsed = text.and_then(|text| i64::from_str_radix(text, radix).ok());
        let message = format!("invalid txn compare request: {line}");
        parsed.ok_or(Failure::new(EXIT_INVALID_INPUT, message))
    };
    let operand = match target.trim() {
        "ver" | "version" => OwnedOperand::Version(number(10)?),
        "c" | "create" => OwnedOperand::Create(number(10)?),
        "m" | "mod" => OwnedOperand::Mod(number(10)?),
        "lease" => OwnedOperand::Lease(number(16)?),
        "val" | "value" => OwnedOperand::Value(value),
        other => {
            let message = format!("malformed comparison: {line} (unknown target {other})");
            return Err(Failure::new(EXIT_INVALID_INPUT, message));
        }
    };
    Ok(OwnedCompare { key, result, operand })
}

fn op(line: &str) -> Result<OwnedOp, Failure> {
    let words = words(line)?.into_iter().map(OsString::from_vec);
    let parsed = TxnLine::try_parse_from(words).map_err(|_unknown| {
        Failure::new(EXIT_INVALID_INPUT, format!("invalid txn request: {line}"))
    })?;
    Ok(match parsed.op {
        // A value that is missing here is not looked for on standard input, which holds this text.
        TxnOp::Put(put) => OwnedOp::Put(OwnedPut::from_arguments(put, None)?),
        TxnOp::Get(get) => OwnedOp::Get(OwnedRange::from_arguments(get)?),
        TxnOp::Del(del) => OwnedOp::Del(OwnedDelete::from_arguments(del)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::EXIT_BAD_ARGUMENTS;

    fn read(text: &str) -> Result<TxnText, u8> {
        TxnText::read(&mut text.as_bytes(), None).map_err(|failure| failure.code)
    }

    #[test]
    fn a_whole_transaction_is_read() {
        let text = "value(\"a\") = \"1\"\nm(\"a b\")>\"0\"\nlease(\"k\") != \"1f\"\n\n\
                    put x 'y z' --lease=10\nget x --prefix --limit 3\n\ndel k --prev-kv\n\n";
        let text = read(text).unwrap();
        let request = text.request();
        assert_eq!(request.compare.len(), 3);
        assert_eq!(request.compare[0].operand, Operand::Value(b"1"));
        assert_eq!(request.compare[1].key, b"a b");
        assert_eq!(request.compare[1].result, CompareResult::Greater);
        assert_eq!(request.compare[2].operand, Operand::Lease(0x1f));
        let RequestOp::Put(put) = &request.success[0] else { panic!("a put") };
        assert_eq!((put.key, put.value, put.lease), (&b"x"[..], &b"y z"[..], 16));
        let RequestOp::Range(range) = &request.success[1] else { panic!("a get") };
        assert_eq!((range.range_end, range.limit), (&b"y"[..], 3));
        let RequestOp::DeleteRange(delete) = &request.failure[0] else { panic!("a del") };
        assert!(delete.prev_kv);
    }

    #[test]
    fn what_etcdctl_refuses_is_refused_with_its_code() {
        assert!(read("\n\n\n").is_ok());
        for text in [
            "bogus\n\n\n\n",
            "ver(\"a\") = \"x\"\n\n\n\n",
            "m(\"a\") ~ \"1\"\n\n\n\n",
            "who(\"a\") = \"1\"\n\n\n\n",
            "ver(\"a\") < 100\n\n\n\n",
            "\nfoo x\n\n\n",
            "c(\"a\") != \"0\"",
            "\n\n",
            "",
        ] {
            assert_eq!(read(text).err(), Some(EXIT_INVALID_INPUT), "{text:?}");
        }
        assert_eq!(read("\nput x\n\n\n").err(), Some(EXIT_BAD_ARGUMENTS));
    }

    #[test]
    fn prompts_are_etcdctls() {
        let mut prompts = Vec::new();
        TxnText::read(&mut &b"\n\n\n"[..], Some(&mut prompts)).unwrap();
        let expected = "compares:\nsuccess requests (get, put, del):\n\
                        failure requests (get, put, del):\n";
        assert_eq!(String::from_utf8(prompts).unwrap(), expected);
    }
}
