// One connection: a WebSocket to the gateway and an RFB session (RFC 6143) on it.

import RFB from "./novnc/core/rfb.js";
import { orderedEnd } from "./reasons.js";

/** @typedef {import("./reasons.js").End} End */

// From the upgrade to the first frame: the gateway's check and its connect to the ESXi host take up to
// 5 s each, the RFB handshake three round trips more.
const HANDSHAKE_TIMEOUT_MS = 20_000;

const TOKEN_SUBPROTOCOL = "vncgate.token.";

// RFC 6455, 7.1.5: the socket was lost without a Close frame, or the upgrade was refused.
const ABNORMAL_CLOSURE = 1006;

// The reason in the Close frame of the filter (`filter/core/src/rfb/mod.rs`).
const NOT_RFB = "the console does not speak RFB";

/**
 * Opens the console and resolves when it has ended.
 *
 * The socket is ours, not noVNC's, because noVNC keeps the close code to itself. The token travels as a
 * subprotocol: a URL would be logged.
 *
 * @param {HTMLElement} screen where noVNC puts its canvas
 * @param {string} token
 * @param {string[]} subprotocols further ones to offer
 * @param {AbortSignal} signal closes the console
 * @param {(rfb: RFB) => void} onConnected
 * @returns {Promise<End>}
 */
export function openConsole(screen, token, subprotocols, signal, onConnected) {
    const offered = ["binary", TOKEN_SUBPROTOCOL + token, ...subprotocols];
    const socket = new WebSocket(websockifyUrl(), offered);
    let upgraded = false;
    let connected = false;
    /** @type {End | null} What the server or noVNC said before the end. */
    let failure = null;
    /** @type {CloseEvent | null} */
    let closed = null;

    // Before noVNC adds its own listener, so that the code is known when noVNC reports the end.
    socket.addEventListener("close", (event) => { closed = event; });
    socket.addEventListener("open", () => { upgraded = true; });

    return new Promise((resolve) => {
        const rfb = new RFB(screen, socket);
        const close = () => rfb.disconnect();
        const deadline = setTimeout(close, HANDSHAKE_TIMEOUT_MS);
        signal.addEventListener("abort", close);

        rfb.addEventListener("connect", () => {
            clearTimeout(deadline);
            connected = true;
            onConnected(rfb);
        });
        // The gateway logs in with the password that vCenter knows; one that nobody knows is a dead end.
        rfb.addEventListener("credentialsrequired", () => {
            failure = { code: "password_required", detail: "" };
            close();
        });
        rfb.addEventListener("securityfailure", ({ detail: { reason = "" } }) => {
            // Some servers end the text with a NUL.
            failure = { code: "server_refused", detail: reason.replaceAll("\0", "") };
        });
        rfb.addEventListener("disconnect", ({ detail: { clean } }) => {
            clearTimeout(deadline);
            signal.removeEventListener("abort", close);
            const detail = closed?.reason ?? "";
            resolve(failure ?? orderedEnd(detail) ?? { code: endCode(upgraded, connected, closed, clean), detail });
        });
    });
}

/**
 * @param {boolean} upgraded whether the gateway opened the WebSocket
 * @param {boolean} connected
 * @param {CloseEvent | null} closed
 * @param {boolean} clean whether noVNC ended the session as it should end
 */
function endCode(upgraded, connected, closed, clean) {
    // noVNC gave up while the socket was still open, or the gateway did: the server does not speak RFB.
    if ((closed === null && !clean) || closed?.reason === NOT_RFB) {
        return "protocol_error";
    }
    if (!connected) {
        return upgraded ? "no_answer" : "not_upgraded";
    }
    return closed?.code === ABNORMAL_CLOSURE ? "connection_lost" : "console_closed";
}

// Relative to the page, so that a gateway may serve it below a path prefix.
function websockifyUrl() {
    const url = new URL("websockify", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.hash = "";
    return url;
}
