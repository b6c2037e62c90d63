// Every reason for which there is no console, and whether another attempt can help. Each has its words in
// languages/, as `reason.CODE` and `advice.CODE`.
//
// A browser learns nothing about a refused WebSocket upgrade but the close code 1006, so the page asks the
// authority (status.js). The codes of the first group are the authority's refusals, those of the second the ends
// that it orders, which travel in the Close frame; the rest are the page's own.

/**
 * code → whether another attempt with the same link can help: by itself ("auto"), after the person has done
 * something ("manual") or never.
 *
 * @typedef {"auto" | "manual" | "never"} Retry
 * @type {Record<string, Retry>}
 */
const REASONS = {
    token_invalid: "never",
    console_moved: "never",
    console_unavailable: "auto",
    vcenter_refused: "manual",
    host_unresolved: "manual",
    vcenter_unavailable: "auto",
    too_many_attempts: "auto",
    permission_denied: "manual",
    console_limit: "manual",
    session_limit: "manual",
    link_in_use: "manual",
    authority_unavailable: "auto",

    ended_by_operator: "manual",
    token_revoked: "never",
    machine_powered_off: "auto",
    machine_suspended: "auto",
    machine_moved: "never",
    machine_removed: "never",
    console_shared: "manual",
    access_lost: "never",
    session_too_long: "manual",
    session_idle: "manual",
    replaced_by_newer: "manual",

    page_not_encrypted: "never",
    no_token: "never",
    unreachable: "auto",
    unexpected_answer: "manual",
    no_answer: "auto",
    origin: "manual",
    link_used_up: "never",
    protocol_error: "manual",
    server_refused: "manual",
    password_required: "manual",
    console_closed: "auto",
    connection_lost: "auto",
    page_failed: "manual",
    page_not_started: "manual",
    closed_by_user: "manual",
};

// What the authority says with an end that it orders where nobody has given a reason. The page's own words say it.
/** @type {Record<string, string>} */
const USUAL_WORDS = {
    ended_by_operator: "An operator ended this session.",
    token_revoked: "The link to this console was revoked.",
    machine_powered_off: "The machine was powered off.",
    machine_suspended: "The machine was suspended.",
    machine_moved: "The machine moved to another host.",
    machine_removed: "The machine was removed.",
    console_moved: "The machine's console has moved.",
    console_shared: "Another machine uses this console's port.",
    access_lost: "You may not use this console any more.",
    session_too_long: "The session was open for as long as is allowed.",
    session_idle: "The session was idle for too long.",
    replaced_by_newer: "A newer session took over this console.",
    session_limit: "There are too many open consoles.",
};

/** Ends after which a link opens the console at its new place, if the authority is set to follow machines. */
const MOVES = ["machine_moved", "console_moved"];

/**
 * Why a connection ended or did not begin: a code, and the words of the server that ended it. `ordered`: the authority
 * has ended it; `final`: this link opens no other console; `open`: the authority says that it opens one now; `sentences`: what
 * the page says itself in place of `detail`, by the keys of languages/.
 *
 * @typedef {{key: string, values: Record<string, string>}} Sentence
 * @typedef {{code: string, detail: string, ordered?: true, final?: boolean, open?: boolean, sentences?: Sentence[]}} End
 * @typedef {End & {retry: Retry}} Reason
 */

// What the authority orders: `CODE: words` (`authority/api/src/sessions.rs`).
const ORDERED = /^([a-z][a-z_]+)(?:: (.*))?$/;

/**
 * The end that the reason of a Close frame tells, if it is one that the authority orders.
 *
 * @param {string} closeReason
 * @returns {End | null}
 */
export function orderedEnd(closeReason) {
    const [, code = "", words = ""] = ORDERED.exec(closeReason) ?? [];
    const detail = words === USUAL_WORDS[code] ? "" : words;
    return isKnown(code) ? { code, detail, ordered: true } : null;
}

/**
 * @param {End} end
 * @returns {Reason}
 */
export function reasonOf({ code, detail, sentences, final = false, open = false }) {
    if (open && MOVES.includes(code)) {
        return { code, detail, retry: "auto" };
    }
    return { code, detail, sentences, retry: final ? "never" : isKnown(code) ? REASONS[code] : "manual" };
}

/** @param {string} code */
function isKnown(code) {
    return Object.prototype.hasOwnProperty.call(REASONS, code);
}
