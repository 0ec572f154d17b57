# Varnish as a good operator would set it up for this origin. It takes its ttl from max-age and its grace from
# stale-while-revalidate; stale objects are served at once, and one fetch behind the reader renews them.
# Started with two pools of threads, see contender.rs.
vcl 4.1;

backend origin {
    .host = "@ORIGIN_HOST@";
    .port = "@ORIGIN_PORT@";
    .connect_timeout = 5s;
    .first_byte_timeout = 30s;
}

sub vcl_backend_response {
    # A background fetch that the origin answers with an error must not replace what is stored.
    if (beresp.status >= 500 && bereq.is_bgfetch) {
        return (abandon);
    }
}
