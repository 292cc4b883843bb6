# nginx's configuration: what is staged, by HTTP, to machines that know the
# token and are in one of the networks. Everybody else gets 403, whatever they
# ask for.
{
  listenIP,
  port ? 80,
  hostname ? "_",
  allowedCIDRs,
  # Where releases are staged: `current` and `stages` are in here.
  wwwDir,
  # Holds token.map, and nginx's own temporary files.
  runtimeDir,
  # Where to log who fetched what, in access_log's terms; without the token.
  accessLog ? "syslog:server=unix:/dev/log,facility=daemon,tag=netboot,nohostname",
}:
let
  allow = builtins.concatStringsSep "\n" (map (c: "    allow ${c};") allowedCIDRs);
in
''
  daemon off;
  worker_processes 2;
  pid ${runtimeDir}/nginx.pid;
  # What it says of itself. Of requests it says nothing, see below.
  error_log stderr crit;

  events {
    worker_connections 512;
  }

  http {
    types {
      text/plain ipxe;
    }
    default_type application/octet-stream;

    # $ec_token_ok from $ec_token; see ec-verify netboot render.
    include ${runtimeDir}/token.map;

    # An error of whatever severity is told with the request's URL, and so with the
    # token: a disk that cannot be read, too many open files. That there was one, the
    # status 500 in the access log says.
    error_log /dev/null emerg;
    # Whoever can connect writes what is logged here.
    map $http_range $ec_range {
      default "other";
      "" "-";
      "~^bytes=[0-9]*-[0-9]*$" $http_range;
    }
    log_format boot '$remote_addr $request_method "$ec_file" $status $body_bytes_sent range="$ec_range"';
    access_log ${accessLog} boot;
    client_header_buffer_size 1k;
    large_client_header_buffers 4 1k;
    max_ranges 1;

    sendfile on;
    tcp_nopush on;
    server_tokens off;
    keepalive_timeout 30s;
    send_timeout 60s;
    client_header_timeout 10s;
    client_body_timeout 10s;
    client_max_body_size 1k;
    client_body_temp_path ${runtimeDir}/body;
    proxy_temp_path ${runtimeDir}/proxy;
    fastcgi_temp_path ${runtimeDir}/fastcgi;
    uwsgi_temp_path ${runtimeDir}/uwsgi;
    scgi_temp_path ${runtimeDir}/scgi;

    server {
      listen ${listenIP}:${toString port};
      server_name ${hostname};

  ${allow}
      deny all;

      # A machine that has read the script of one stage gets the files of that
      # stage, also when another one has become current meanwhile.
      location ~ "^/(?<ec_token>[A-Za-z0-9._~-]{16,128})/(?<ec_file>netboot\.ipxe)$" {
        if ($ec_token_ok = 0) { return 403; }
        root ${wwwDir};
        try_files /current/$ec_file =404;
      }
      location ~ "^/(?<ec_token>[A-Za-z0-9._~-]{16,128})/(?<ec_file>[A-Za-z0-9_+][A-Za-z0-9._+-]{0,150}/(kernel|initrd|netboot\.ipxe))$" {
        if ($ec_token_ok = 0) { return 403; }
        root ${wwwDir};
        try_files /stages/$ec_file =404;
      }
      location / {
        deny all;
      }
    }
  }
''
