use everfresh::resilient;

struct Client;

impl Client {
    #[resilient(timeout = "1s")]
    fn get(&self, id: u32) -> Result<u32, String> {
        Ok(id)
    }
}

#[resilient(retry(max_attempts = 2))]
async fn used_up(client: Client) -> Result<u32, String> {
    let Client = client;
    Ok(1)
}

fn main() {}
