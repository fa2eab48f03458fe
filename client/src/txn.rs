//! Builders for transactions, and the end of a prefix.

use engine::api::{
    Compare as Guard, CompareResult, CompareTarget, DeleteRangeRequest, Operand, PutRequest,
    RangeRequest, RequestOp, TxnRequest,
};

/// Guards, what to do if all of them hold, and what else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn<'a> {
    request: TxnRequest<'a>,
}

impl<'a> Txn<'a> {
    /// Without guards: they hold.
    pub fn new() -> Txn<'a> {
        Txn::default()
    }

    /// Adds a guard.
    #[must_use]
    pub fn when(mut self, guard: Guard<'a>) -> Txn<'a> {
        self.request.compare.push(guard);
        self
    }

    /// Adds an operation for when all guards hold.
    #[must_use]
    pub fn then(mut self, op: RequestOp<'a>) -> Txn<'a> {
        self.request.success.push(op);
        self
    }

    /// Adds an operation for when a guard fails.
    #[must_use]
    pub fn or_else(mut self, op: RequestOp<'a>) -> Txn<'a> {
        self.request.failure.push(op);
        self
    }

    /// Adds a put for when all guards hold.
    #[must_use]
    pub fn then_put(
        self,
        key: &'a (impl AsRef<[u8]> + ?Sized),
        value: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> Txn<'a> {
        let (key, value) = (key.as_ref(), value.as_ref());
        self.then(RequestOp::Put(PutRequest { key, value, ..PutRequest::default() }))
    }

    /// Adds a deletion of one key for when all guards hold.
    #[must_use]
    pub fn then_delete(self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Txn<'a> {
        let key = key.as_ref();
        self.then(RequestOp::DeleteRange(DeleteRangeRequest { key, ..Default::default() }))
    }

    /// Adds a read of one key for when all guards hold.
    #[must_use]
    pub fn then_get(self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Txn<'a> {
        self.then(get(key.as_ref()))
    }

    /// Adds a read of one key for when a guard fails.
    #[must_use]
    pub fn or_else_get(self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Txn<'a> {
        self.or_else(get(key.as_ref()))
    }

    /// What is sent.
    pub fn request(&self) -> &TxnRequest<'a> {
        &self.request
    }
}

impl<'a> From<TxnRequest<'a>> for Txn<'a> {
    fn from(request: TxnRequest<'a>) -> Txn<'a> {
        Txn { request }
    }
}

fn get(key: &[u8]) -> RequestOp<'_> {
    RequestOp::Range(RangeRequest { key, ..RangeRequest::default() })
}

/// Begins a guard: name a column, then a relation.
pub struct Compare;

/// A column of a key; a relation makes it a guard.
#[derive(Clone, Copy, Debug)]
pub struct CompareColumn<'a> {
    key: &'a [u8],
    target: CompareTarget,
}

impl Compare {
    /// How often the key was written since it was created; 0 if it does not exist.
    pub fn version<'a>(key: &'a (impl AsRef<[u8]> + ?Sized)) -> CompareColumn<'a> {
        CompareColumn { key: key.as_ref(), target: CompareTarget::Version }
    }

    /// The revision that created the key; 0 if it does not exist.
    pub fn create_revision<'a>(key: &'a (impl AsRef<[u8]> + ?Sized)) -> CompareColumn<'a> {
        CompareColumn { key: key.as_ref(), target: CompareTarget::Create }
    }

    /// The revision that last changed the key; 0 if it does not exist.
    pub fn mod_revision<'a>(key: &'a (impl AsRef<[u8]> + ?Sized)) -> CompareColumn<'a> {
        CompareColumn { key: key.as_ref(), target: CompareTarget::Mod }
    }

    /// The lease of the key, or 0.
    pub fn lease<'a>(key: &'a (impl AsRef<[u8]> + ?Sized)) -> CompareColumn<'a> {
        CompareColumn { key: key.as_ref(), target: CompareTarget::Lease }
    }

    /// The value equals the one given. A key that does not exist fails every guard on its value.
    pub fn value_equal<'a>(
        key: &'a (impl AsRef<[u8]> + ?Sized),
        value: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> Guard<'a> {
        Guard {
            result: CompareResult::Equal,
            target: CompareTarget::Value,
            key: key.as_ref(),
            range_end: b"",
            operand: Operand::Value(value.as_ref()),
        }
    }
}

impl<'a> CompareColumn<'a> {
    /// It is the number given.
    pub fn equal(self, number: i64) -> Guard<'a> {
        self.guard(CompareResult::Equal, number)
    }

    /// It is another number.
    pub fn not_equal(self, number: i64) -> Guard<'a> {
        self.guard(CompareResult::NotEqual, number)
    }

    /// It is larger.
    pub fn greater(self, number: i64) -> Guard<'a> {
        self.guard(CompareResult::Greater, number)
    }

    /// It is smaller.
    pub fn less(self, number: i64) -> Guard<'a> {
        self.guard(CompareResult::Less, number)
    }

    fn guard(self, result: CompareResult, number: i64) -> Guard<'a> {
        let operand = match self.target {
            CompareTarget::Version => Operand::Version(number),
            CompareTarget::Create => Operand::CreateRevision(number),
            CompareTarget::Mod => Operand::ModRevision(number),
            CompareTarget::Lease => Operand::Lease(number),
            CompareTarget::Value | CompareTarget::Unknown => Operand::Missing,
        };
        Guard { result, target: self.target, key: self.key, range_end: b"", operand }
    }
}

/// The range end that makes a range of every key with `prefix`: the prefix with its last byte that
/// can grow one larger, or one zero byte (no end) if none can.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte < 0xff);
    match kept {
        Some(slot) => {
            let mut end = prefix[..=slot].to_vec();
            end[slot] += 1;
            end
        }
        None => vec![0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_they_can_grow() {
        assert_eq!(prefix_end(b"ab"), b"ac");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
        assert_eq!(prefix_end(b""), b"\0");
    }

    #[test]
    fn a_builder_says_what_a_request_would() {
        let txn = Txn::new()
            .when(Compare::version("k").greater(3))
            .when(Compare::value_equal("k", "v"))
            .then_put("k", "w")
            .then_delete("l")
            .or_else_get("k");
        let request = txn.request();
        assert_eq!(request.compare[0].operand, Operand::Version(3));
        assert_eq!(request.compare[0].result, CompareResult::Greater);
        assert_eq!(request.compare[1].operand, Operand::Value(b"v"));
        assert_eq!((request.success.len(), request.failure.len()), (2, 1));
    }
}
