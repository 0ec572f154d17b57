//! What the second level has still to be told: what is struck here is owed to it, and nothing that may be struck is asked of it
//! before that is paid (contract I1).
//!
//! A strike is *open* from before its first step until the second level has heard of it, and *due* once all its steps in this
//! process are done. What a loader made is on its way while its *put* is noted; a strike that comes meanwhile *spoils* it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use hashbrown::HashTable;

use crate::sync::lock;

/// More keys than this are not remembered one by one, as when the second level is out of order for long: all is owed then.
const MOST_KEYS: usize = 1 << 16;

/// What an invalidation strikes.
pub(crate) enum Strike<K> {
    /// A key, by its hash.
    Key(u64, K),
    Tag(Arc<str>),
    All,
}

/// The books of one cache.
pub(crate) struct Ledger<K> {
    books: Mutex<Books<K>>,
}

struct Books<K> {
    /// By the hash of the key, so that no code of the user's runs under the lock. Another key of that hash is not asked for
    /// either, which costs it a load and no more.
    open_keys: HashMap<u64, usize>,
    open_tags: HashMap<Arc<str>, usize>,
    open_all: usize,
    due_keys: HashTable<(u64, K)>,
    due_tags: HashSet<Arc<str>>,
    due_all: bool,
    /// Somebody is paying what is due.
    being_paid: bool,
    puts: HashMap<u64, Vec<Put>>,
    next_put: u64,
}

struct Put {
    id: u64,
    tags: Vec<Arc<str>>,
    spoiled: bool,
}

impl<K> Default for Ledger<K> {
    fn default() -> Ledger<K> {
        let books = Books {
            open_keys: HashMap::new(),
            open_tags: HashMap::new(),
            open_all: 0,
            due_keys: HashTable::new(),
            due_tags: HashSet::new(),
            due_all: false,
            being_paid: false,
            puts: HashMap::new(),
            next_put: 0,
        };
        Ledger { books: Mutex::new(books) }
    }
}

impl<K: Eq> Ledger<K> {
    fn books(&self) -> MutexGuard<'_, Books<K>> {
        lock(&self.books)
    }

    /// A strike begins: from now on nothing is asked that it may concern.
    pub(crate) fn open(&self, strike: &Strike<K>) {
        self.books().open(strike);
    }

    /// All steps of an open strike are done but to tell the second level. `true` if the caller has to see to that.
    #[must_use]
    pub(crate) fn due(&self, strike: Strike<K>) -> bool {
        // What is not kept is dropped after the lock.
        let (unkept, start);
        {
            let mut books = self.books();
            unkept = books.due(strike);
            start = !std::mem::replace(&mut books.being_paid, true);
        }
        drop(unkept);
        start
    }

    /// The next strike to tell the second level of; `None` if all is told, and whoever asked is relieved.
    pub(crate) fn next(&self) -> Option<Strike<K>> {
        let mut books = self.books();
        let mut struck_with_all = Vec::new();
        let next = if std::mem::take(&mut books.due_all) {
            // All of it is open until it is told, so that these need not be.
            struck_with_all = books.take_what_is_due();
            struck_with_all.iter().for_each(|strike| books.close(strike));
            Some(Strike::All)
        } else {
            books.one_of_many()
        };
        books.being_paid = next.is_some();
        drop(books);
        drop(struck_with_all);
        next
    }

    /// The second level has heard of it.
    pub(crate) fn paid(&self, strike: &Strike<K>) {
        self.books().close(strike);
    }

    /// The second level did not hear of it: it stays open and due, and whoever tried is relieved.
    pub(crate) fn unpaid(&self, strike: Strike<K>) {
        let mut books = self.books();
        books.being_paid = false;
        let unkept = books.due(strike);
        drop(books);
        drop(unkept);
    }

    /// Whoever was paying is relieved.
    pub(crate) fn relieve(&self) {
        self.books().being_paid = false;
    }

    /// Whether something is due that nobody is paying; then the caller has to see to it.
    #[must_use]
    pub(crate) fn is_stalled(&self) -> bool {
        let mut books = self.books();
        let due = books.due_all || !books.due_keys.is_empty() || !books.due_tags.is_empty();
        due && !std::mem::replace(&mut books.being_paid, true)
    }

    /// Whether a key may be asked for; if so, a value with one of the returned tags is not to be taken.
    pub(crate) fn may_ask(&self, hash: u64) -> Option<Vec<Arc<str>>> {
        let books = self.books();
        let settled = books.open_all == 0 && !books.open_keys.contains_key(&hash) && !books.puts.contains_key(&hash);
        settled.then(|| books.open_tags.keys().cloned().collect())
    }

    /// Notes that a value is about to be stored here and then put there.
    pub(crate) fn begin_put(&self, hash: u64, tags: &[Arc<str>]) -> u64 {
        let mut books = self.books();
        let spoiled = books.open_all > 0
            || books.open_keys.contains_key(&hash)
            || tags.iter().any(|tag| books.open_tags.contains_key(tag));
        books.next_put += 1;
        let id = books.next_put;
        books.puts.entry(hash).or_default().push(Put { id, tags: tags.to_vec(), spoiled });
        id
    }

    /// Whether something struck it since it began.
    pub(crate) fn is_spoiled(&self, hash: u64, id: u64) -> bool {
        self.books().puts.get(&hash).is_some_and(|puts| puts.iter().any(|put| put.id == id && put.spoiled))
    }

    /// Ends a put that was `sent`, and of which it is certain or not that it arrived. `true` if what it left there has to be
    /// struck: that strike is open then.
    #[must_use]
    pub(crate) fn end_put(&self, hash: u64, id: u64, sent: bool, arrived: bool) -> bool {
        let mut books = self.books();
        let Some(puts) = books.puts.get_mut(&hash) else { return false };
        let spoiled = match puts.iter().position(|put| put.id == id) {
            Some(at) => puts.swap_remove(at).spoiled,
            None => false,
        };
        if puts.is_empty() {
            books.puts.remove(&hash);
        }
        let owes = sent && (spoiled || !arrived);
        if owes {
            *books.open_keys.entry(hash).or_default() += 1;
        }
        owes
    }
}

impl<K: Eq> Books<K> {
    fn open(&mut self, strike: &Strike<K>) {
        match strike {
            Strike::Key(hash, _) => {
                *self.open_keys.entry(*hash).or_default() += 1;
                self.puts.get_mut(hash).into_iter().flatten().for_each(|put| put.spoiled = true);
            }
            Strike::Tag(tag) => {
                *self.open_tags.entry(Arc::clone(tag)).or_default() += 1;
                let puts = self.puts.values_mut().flatten();
                puts.filter(|put| put.tags.contains(tag)).for_each(|put| put.spoiled = true);
            }
            Strike::All => {
                self.open_all += 1;
                self.puts.values_mut().flatten().for_each(|put| put.spoiled = true);
            }
        }
    }

    fn close(&mut self, strike: &Strike<K>) {
        match strike {
            Strike::Key(hash, _) => {
                if let Some(open) = self.open_keys.get_mut(hash) {
                    *open -= 1;
                    if *open == 0 {
                        self.open_keys.remove(hash);
                    }
                }
            }
            Strike::Tag(tag) => {
                if let Some(open) = self.open_tags.get_mut(tag) {
                    *open -= 1;
                    if *open == 0 {
                        self.open_tags.remove(tag);
                    }
                }
            }
            Strike::All => self.open_all -= 1,
        }
    }

    /// Notes what is due; returns what need not be told one by one, or twice, and is closed.
    fn due(&mut self, strike: Strike<K>) -> Vec<Strike<K>> {
        let mut unkept = Vec::new();
        match strike {
            Strike::Key(hash, key) => match self.due_keys.find(hash, |(_, other)| *other == key) {
                Some(_) => unkept.push(Strike::Key(hash, key)),
                None => {
                    self.due_keys.insert_unique(hash, (hash, key), |&(hash, _)| hash);
                }
            },
            Strike::Tag(tag) if self.due_tags.contains(&tag) => unkept.push(Strike::Tag(tag)),
            Strike::Tag(tag) => {
                self.due_tags.insert(tag);
            }
            Strike::All if self.due_all => unkept.push(Strike::All),
            Strike::All => self.due_all = true,
        }
        if self.due_keys.len() > MOST_KEYS {
            unkept.append(&mut self.take_what_is_due());
            if !std::mem::replace(&mut self.due_all, true) {
                self.open(&Strike::All);
            }
        }
        for strike in &unkept {
            self.close(strike);
        }
        unkept
    }

    fn take_what_is_due(&mut self) -> Vec<Strike<K>> {
        let keys = std::mem::take(&mut self.due_keys).into_iter().map(|(hash, key)| Strike::Key(hash, key));
        let tags = std::mem::take(&mut self.due_tags).into_iter().map(Strike::Tag);
        keys.chain(tags).collect()
    }

    fn one_of_many(&mut self) -> Option<Strike<K>> {
        if let Some(tag) = self.due_tags.iter().next().cloned() {
            self.due_tags.remove(&tag);
            return Some(Strike::Tag(tag));
        }
        let hash = self.due_keys.iter().next()?.0;
        let (found, _) = self.due_keys.find_entry(hash, |_| true).ok()?.remove();
        if self.due_keys.is_empty() {
            self.due_keys = HashTable::new();
        }
        Some(Strike::Key(found.0, found.1))
    }
}
