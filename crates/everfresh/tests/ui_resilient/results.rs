use everfresh::resilient;
use std::rc::Rc;

struct Connection;

#[resilient(cache(ttl = "1m"))]
fn not_cloned(id: u32) -> Result<Connection, String> {
    if id > 0 { Ok(Connection) } else { Err("none".to_owned()) }
}

#[resilient(cache(ttl = "1m"))]
fn not_shared(id: u32) -> Result<u32, Box<dyn std::error::Error>> {
    Ok(id)
}

#[resilient(timeout = "1s")]
fn not_sent(id: u32) -> Result<Rc<u32>, String> {
    Ok(Rc::new(id))
}

#[resilient(timeout = "1s")]
fn no_result(id: u32) -> Option<u32> {
    Some(id)
}

fn main() {}
