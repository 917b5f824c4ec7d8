"""An HTTPS provider with a certificate of its own authority. Arguments: where to write the authority's certificate, and, for
one that asks for client certificates and is called otherwise than its address: its name, and where to write a client's
certificate and its key.

Prints its port; answers every POST with a chat completion that says which credential it was sent, and GETs with 204.
"""

import http.server
import json
import ssl
import sys

import trustme

authority = trustme.CA()
authority.cert_pem.write_to_path(sys.argv[1])


class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        said = f"credential: {self.headers['authorization']}, key: {self.headers['x-api-key']}"
        shown = self.connection.getpeercert()
        if shown:
            said += f", shown: {shown['subjectAltName'][0][1]}, asked for: {self.connection.asked}"
        message = {"role": "assistant", "content": said}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
                  "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
if len(sys.argv) > 2:
    name, certificate, key = sys.argv[2:]
    client = authority.issue_cert("sentinel.client")
    for n, pem in enumerate(client.cert_chain_pems):
        pem.write_to_path(certificate, append=n > 0)
    client.private_key_pem.write_to_path(key)
    authority.issue_cert(name).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    def note(connection, server_name, _context):
        connection.asked = server_name

    context.sni_callback = note
else:
    authority.issue_cert("127.0.0.1").configure_cert(context)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
