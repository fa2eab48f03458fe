//! What the commands do: arguments to requests, requests to the server, answers to the printer.

use super::arguments::{
    CompactionArguments, CtlArguments, CtlCommand, DelArguments, GetArguments, MemberCommand,
    PutArguments, TxnArguments,
};
use super::printer::{Format, Printer, Shown};
use super::txn_text::TxnText;
use super::{
    EXIT_BAD_ARGUMENTS, EXIT_BAD_FEATURE, EXIT_ERROR, Failure, lease, member, status, watch,
};
use corestone_client::{
    Client, DeleteRangeRequest, Options, PutRequest, RangeRequest, SortOrder, SortTarget, Txn,
    prefix_end,
};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;

/// Runs a command to its end; what it shows goes to `out`.
pub(super) async fn run<W: Write>(arguments: CtlArguments, out: W) -> Result<(), Failure> {
    let format = Format::of(&arguments.write_out)?;
    check_format(format, &arguments.command)?;
    let mut printer = Printer::new(format, arguments.hex, out);
    let options = options(&arguments);
    match arguments.command {
        CtlCommand::Put(put) => {
            let put = OwnedPut::from_arguments(put, Some(&mut io::stdin()))?;
            let answer = connect(options)?.put_with(put.request()).await?;
            printer.show(&answer.header, &Shown::Put(&answer.body))?;
        }
        CtlCommand::Get(get) => run_get(get, options, &mut printer).await?,
        CtlCommand::Del(del) => {
            let del = OwnedDelete::from_arguments(del)?;
            let answer = connect(options)?.delete_range(del.request()).await?;
            printer.show(&answer.header, &Shown::Del(&answer.body))?;
        }
        CtlCommand::Txn(txn) => run_txn(&txn, options, &mut printer).await?,
        CtlCommand::Watch(watch) => watch::run(watch, connect(options)?, &mut printer).await?,
        CtlCommand::Lease(command) => lease::run(command, options, &mut printer).await?,
        CtlCommand::Compaction(compaction) => {
            run_compaction(compaction, options, &mut printer).await?
        }
        CtlCommand::Status => status::run_status(options, &mut printer).await?,
        CtlCommand::Endpoint(endpoint) => status::run(endpoint, options, &mut printer).await?,
        CtlCommand::Member(command) => member::run(command, options, &mut printer).await?,
        CtlCommand::MoveLeader { words } => {
            member::move_leader(&words, options, &mut printer).await?;
        }
    }
    Ok(())
}

/// A format that a command does not have is refused before anything is done: etcdctl says so when
/// the change has happened.
fn check_format(format: Format, command: &CtlCommand) -> Result<(), Failure> {
    let is_shown = match (format, command) {
        (Format::Simple | Format::Json, _) => true,
        (_, CtlCommand::Member(MemberCommand::List { .. })) => true,
        (_, CtlCommand::Endpoint(_) | CtlCommand::Status) => true,
        (_, CtlCommand::Member(_)) => false,
        (format, _) => format == Format::Fields,
    };
    if is_shown {
        return Ok(());
    }
    let message = format!("{} not supported as output format", format.name());
    Err(Failure::new(EXIT_BAD_FEATURE, message))
}

fn options(arguments: &CtlArguments) -> Options {
    Options {
        endpoints: arguments.endpoints.clone(),
        request_timeout: arguments.command_timeout,
        connect_timeout: arguments.dial_timeout,
        keep_alive_interval: arguments.keepalive_time.max(KEEP_ALIVE_MIN),
        keep_alive_timeout: arguments.keepalive_timeout.max(KEEP_ALIVE_MIN),
        client_name: concat!("corestone-ctl/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..Options::default()
    }
}

/// A client that waits for the server as long as the command may take.
pub(super) fn connect(options: Options) -> Result<Client, Failure> {
    Client::lazy(options).map_err(|error| Failure::new(EXIT_BAD_ARGUMENTS, error.to_string()))
}

async fn run_get<W: Write>(
    get: GetArguments,
    options: Options,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    if get.count_only && printer.format() != Format::Fields {
        let message = "--count-only is only for `--write-out=fields`";
        return Err(Failure::new(EXIT_BAD_ARGUMENTS, message));
    }
    if get.print_value_only {
        if printer.format() != Format::Simple {
            let message = "print-value-only is only for `--write-out=simple`";
            return Err(Failure::new(EXIT_BAD_ARGUMENTS, message));
        }
        printer.show_values_only();
    }
    let range = OwnedRange::from_arguments(get)?;
    let answer = connect(options)?.range(range.request()).await?;
    Ok(printer.show(&answer.header, &Shown::Get(&answer.body))?)
}

async fn run_txn<W: Write>(
    txn: &TxnArguments,
    options: Options,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    let mut prompts = io::stdout();
    let prompts: Option<&mut dyn Write> = if txn.interactive { Some(&mut prompts) } else { None };
    let text = TxnText::read(&mut io::stdin().lock(), prompts)?;
    let answer = connect(options)?.txn(&Txn::from(text.request())).await?;
    Ok(printer.show(&answer.header, &Shown::Txn(&answer.body))?)
}

async fn run_compaction<W: Write>(
    compaction: CompactionArguments,
    options: Options,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    let [revision] = &compaction.words[..] else {
        return Err(Failure::new(EXIT_BAD_ARGUMENTS, "compaction command needs 1 argument"));
    };
    let revision: i64 = revision.parse().map_err(|_not_a_number| {
        Failure::new(EXIT_ERROR, format!("parsing {revision:?}: invalid syntax"))
    })?;
    let client = connect(options)?;
    if compaction.physical {
        client.compact_physical(revision).await?;
    } else {
        client.compact(revision).await?;
    }
    Ok(printer.show_line(&format!("compacted revision {revision}"))?)
}

/// A put with its bytes.
#[derive(Debug)]
pub(super) struct OwnedPut {
    key: Vec<u8>,
    value: Vec<u8>,
    lease: i64,
    prev_kv: bool,
    ignore_value: bool,
    ignore_lease: bool,
}

impl OwnedPut {
    /// A value that is not among the words is read from `input`, if there is one.
    pub(super) fn from_arguments(
        put: PutArguments,
        input: Option<&mut dyn Read>,
    ) -> Result<OwnedPut, Failure> {
        let needs = "put command needs 1 argument and input from stdin or 2 arguments";
        let lease = parse_lease_id(&put.lease).map_err(|why| {
            let message = format!("bad lease ID ({why}), expecting ID in Hex");
            Failure::new(EXIT_BAD_ARGUMENTS, message)
        })?;
        let mut words = put.words.into_iter().map(OsString::into_vec);
        let key = words.next().ok_or_else(|| Failure::new(EXIT_BAD_ARGUMENTS, needs))?;
        let value = match words.next() {
            Some(_) if put.ignore_value => {
                let message = "put command needs only 1 argument when 'ignore-value' is set";
                return Err(Failure::new(EXIT_BAD_ARGUMENTS, message));
            }
            Some(value) => value,
            None if put.ignore_value => Vec::new(),
            None => {
                let input = input.ok_or_else(|| Failure::new(EXIT_BAD_ARGUMENTS, needs))?;
                let mut value = Vec::new();
                input.read_to_end(&mut value)?;
                value
            }
        };
        Ok(OwnedPut {
            key,
            value,
            lease,
            prev_kv: put.prev_kv,
            ignore_value: put.ignore_value,
            ignore_lease: put.ignore_lease,
        })
    }

    pub(super) fn request(&self) -> PutRequest<'_> {
        PutRequest {
            key: &self.key,
            value: &self.value,
            lease: self.lease,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        }
    }
}

/// A range with its bytes.
#[derive(Debug)]
pub(super) struct OwnedRange {
    key: Vec<u8>,
    range_end: Vec<u8>,
    sort_order: SortOrder,
    sort_target: SortTarget,
    serializable: bool,
    get: GetArguments,
}

impl OwnedRange {
    pub(super) fn from_arguments(mut get: GetArguments) -> Result<OwnedRange, Failure> {
        let bad_feature = |message: String| Failure::new(EXIT_BAD_FEATURE, message);
        let words = std::mem::take(&mut get.words);
        let needs = "get command needs one argument as key and an optional argument as range_end";
        let (key, range_end) = key_range(words, get.prefix, get.from_key, needs)?;
        let serializable = match &get.consistency[..] {
            "l" => false,
            "s" => true,
            other => return Err(bad_feature(format!("unknown consistency flag {other:?}"))),
        };
        let sort_order = match &get.order.to_uppercase()[..] {
            "" => SortOrder::None,
            "ASCEND" => SortOrder::Ascend,
            "DESCEND" => SortOrder::Descend,
            _ => return Err(bad_feature(format!("bad sort order {}", get.order))),
        };
        let sort_target = match &get.sort_by.to_uppercase()[..] {
            "" | "KEY" => SortTarget::Key,
            "CREATE" => SortTarget::Create,
            "MODIFY" => SortTarget::Mod,
            "VALUE" => SortTarget::Value,
            "VERSION" => SortTarget::Version,
            _ => return Err(bad_feature(format!("bad sort target {}", get.sort_by))),
        };
        Ok(OwnedRange { key, range_end, sort_order, sort_target, serializable, get })
    }

    pub(super) fn request(&self) -> RangeRequest<'_> {
        RangeRequest {
            key: &self.key,
            range_end: &self.range_end,
            limit: self.get.limit,
            revision: self.get.rev,
            sort_order: self.sort_order,
            sort_target: self.sort_target,
            serializable: self.serializable,
            keys_only: self.get.keys_only,
            count_only: self.get.count_only,
            min_mod_revision: self.get.min_mod_rev,
            max_mod_revision: self.get.max_mod_rev,
            min_create_revision: self.get.min_create_rev,
            max_create_revision: self.get.max_create_rev,
        }
    }
}

/// A deletion with its bytes.
#[derive(Debug)]
pub(super) struct OwnedDelete {
    key: Vec<u8>,
    range_end: Vec<u8>,
    prev_kv: bool,
}

impl OwnedDelete {
    pub(super) fn from_arguments(del: DelArguments) -> Result<OwnedDelete, Failure> {
        let needs = "del command needs one argument as key and an optional argument as range_end";
        if del.range && del.words.len() < 2 {
            return Err(Failure::new(EXIT_BAD_ARGUMENTS, needs));
        }
        let (key, range_end) = key_range(del.words, del.prefix, del.from_key, needs)?;
        Ok(OwnedDelete { key, range_end, prev_kv: del.prev_kv })
    }

    pub(super) fn request(&self) -> DeleteRangeRequest<'_> {
        DeleteRangeRequest { key: &self.key, range_end: &self.range_end, prev_kv: self.prev_kv }
    }
}

/// Key and range end from one or two words and the flags that stand for the second.
pub(super) fn key_range(
    words: Vec<OsString>,
    prefix: bool,
    from_key: bool,
    needs: &str,
) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let bad = |message: &str| Err(Failure::new(EXIT_BAD_ARGUMENTS, message));
    if prefix && from_key {
        return bad("`--prefix` and `--from-key` cannot be set at the same time, choose one");
    }
    let mut words = words.into_iter().map(OsString::into_vec);
    let (key, range_end) = match (words.next(), words.next(), words.next()) {
        (Some(key), range_end, None) => (key, range_end),
        _ => return bad(needs),
    };
    match range_end {
        Some(_) if prefix || from_key => bad(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        ),
        Some(range_end) => Ok((key, range_end)),
        // An empty key is none; from the first possible key it is every key.
        None if (prefix || from_key) && key.is_empty() => Ok((vec![0], vec![0])),
        None if prefix => {
            let end = prefix_end(&key);
            Ok((key, end))
        }
        None if from_key => Ok((key, vec![0])),
        None => Ok((key, Vec::new())),
    }
}

/// A lease's id as it is printed: hexadecimal.
pub(super) fn parse_lease_id(text: &str) -> Result<i64, String> {
    i64::from_str_radix(text, 16).map_err(|_not_hex| format!("parsing {text:?}: invalid syntax"))
}

/// A keep-alive faster than this would only measure itself.
const KEEP_ALIVE_MIN: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn range(words: &[&str]) -> Result<OwnedRange, u8> {
        let words = ["ctl", "get"].iter().chain(words);
        let CtlCommand::Get(get) = CtlArguments::try_parse_from(words).unwrap().command else {
            panic!("a get")
        };
        OwnedRange::from_arguments(get).map_err(|failure| failure.code)
    }

    fn put(words: &[&str], mut input: &[u8]) -> Result<OwnedPut, u8> {
        let words = ["ctl", "put"].iter().chain(words);
        let CtlCommand::Put(put) = CtlArguments::try_parse_from(words).unwrap().command else {
            panic!("a put")
        };
        OwnedPut::from_arguments(put, Some(&mut input)).map_err(|failure| failure.code)
    }

    #[test]
    fn ranges_are_what_etcdctl_makes_of_the_flags() {
        let range_of = |words: &[&str]| {
            let range = range(words).unwrap();
            (range.request().key.to_vec(), range.request().range_end.to_vec())
        };
        let pair = |key: &[u8], end: &[u8]| (key.to_vec(), end.to_vec());
        assert_eq!(range_of(&["a"]), pair(b"a", b""));
        assert_eq!(range_of(&["a", "c"]), pair(b"a", b"c"));
        assert_eq!(range_of(&["a", "--prefix"]), pair(b"a", b"b"));
        assert_eq!(range_of(&["a", "--from-key"]), pair(b"a", b"\0"));
        assert_eq!(range_of(&["", "--prefix"]), pair(b"\0", b"\0"));
        let sorted = range(&["a", "--sort-by=modify", "--order=DESCEND", "--consistency=s"]);
        let sorted = sorted.unwrap();
        assert_eq!(sorted.request().sort_target, SortTarget::Mod);
        assert_eq!(sorted.request().sort_order, SortOrder::Descend);
        assert!(sorted.request().serializable);
        for (words, code) in [
            (&[][..], EXIT_BAD_ARGUMENTS),
            (&["a", "b", "c"][..], EXIT_BAD_ARGUMENTS),
            (&["a", "b", "--prefix"][..], EXIT_BAD_ARGUMENTS),
            (&["a", "--prefix", "--from-key"][..], EXIT_BAD_ARGUMENTS),
            (&["a", "--order=FOO"][..], EXIT_BAD_FEATURE),
            (&["a", "--sort-by=FOO"][..], EXIT_BAD_FEATURE),
            (&["a", "--consistency=x"][..], EXIT_BAD_FEATURE),
        ] {
            assert_eq!(range(words).err(), Some(code), "{words:?}");
        }
    }

    #[test]
    fn a_puts_value_comes_from_the_words_or_from_the_input() {
        assert_eq!(put(&["k", "v"], b"x").unwrap().request().value, b"v");
        assert_eq!(put(&["k"], b"in\n").unwrap().request().value, b"in\n");
        assert_eq!(put(&["k", "--ignore-value"], b"in").unwrap().request().value, b"");
        assert_eq!(put(&["k", "v", "--lease=1f"], b"").unwrap().request().lease, 31);
        for words in [&[][..], &["k", "v", "--lease=zz"], &["k", "v", "--ignore-value"]] {
            assert_eq!(put(words, b"").err(), Some(EXIT_BAD_ARGUMENTS), "{words:?}");
        }
    }
}
