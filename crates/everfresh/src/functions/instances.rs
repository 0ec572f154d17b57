//! One thing of its own for each instantiation of a generic function.

use std::any::{Any, TypeId};
use std::sync::OnceLock;

/// A chain that only grows, by as many links as the program has instantiations. A `static` is shared by all of them.
pub struct Instances {
    first: OnceLock<Box<Link>>,
}

struct Link {
    of: TypeId,
    instance: Box<dyn Any + Send + Sync>,
    next: OnceLock<Box<Link>>,
}

impl Instances {
    /// None yet.
    #[allow(clippy::new_without_default, reason = "made in a static")]
    pub const fn new() -> Instances {
        Instances { first: OnceLock::new() }
    }

    /// The instance for the function's own type, which is another one for each instantiation; made at the first call.
    pub fn get<F: 'static, T: Send + Sync + 'static>(
        &'static self,
        _function: &F,
        make: impl FnOnce() -> T,
    ) -> &'static T {
        let of = TypeId::of::<(F, T)>();
        let mut make = Some(make);
        let mut place = &self.first;
        loop {
            let link = place.get_or_init(|| match make.take() {
                Some(make) => Box::new(Link { of, instance: Box::new(make()), next: OnceLock::new() }),
                None => unreachable!("a link is made once, and it is the one that is looked for"),
            });
            if link.of == of
                && let Some(instance) = link.instance.downcast_ref()
            {
                return instance;
            }
            place = &link.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function<T: 'static>() -> &'static str {
        std::any::type_name::<T>()
    }

    #[test]
    fn each_instantiation_has_an_instance_of_its_own_and_keeps_it() {
        static INSTANCES: Instances = Instances::new();
        let first: &u32 = INSTANCES.get(&function::<u8>, || 1);
        let second: &u32 = INSTANCES.get(&function::<u16>, || 2);
        assert_eq!((*first, *second), (1, 2));
        assert_eq!(*INSTANCES.get::<_, u32>(&function::<u8>, || 3), 1);
        assert_eq!(*INSTANCES.get::<_, u32>(&function::<u16>, || 4), 2);
    }
}
