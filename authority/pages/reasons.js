// Every reason for which there is no console, in words for the person at the browser.
//
// A browser learns nothing about a refused WebSocket upgrade but the close code 1006, so the page asks the
// authority (status.js). The codes of the first group are the authority's; the rest are the page's own.

const NEW_LINK = "Open the console again from where you got the link: that makes a new one.";

/**
 * code → what happened, what to do next (null: the authority says it, since it depends on the machine), and
 * whether another attempt with the same link can help: by itself ("auto"), after the person has done
 * something ("manual") or never.
 *
 * @typedef {{summary: string, advice: string | null, retry: "auto" | "manual" | "never"}} Explanation
 * @type {Record<string, Explanation>}
 */
const REASONS = {
    token_invalid: {
        summary: "This console link is no longer valid: it has expired, was used up or was withdrawn.",
        advice: NEW_LINK,
        retry: "never",
    },
    console_moved: {
        summary: "The virtual machine has moved, so this link no longer leads to its console.",
        advice: NEW_LINK,
        retry: "never",
    },
    console_unavailable: {
        summary: "The virtual machine has no console now.",
        advice: null,
        retry: "auto",
    },
    vcenter_refused: {
        summary: "vCenter refuses to open the console.",
        advice: null,
        retry: "manual",
    },
    host_unresolved: {
        summary: "The name of the virtual machine's host has no address.",
        advice: "Tell your administrator: the console gateway cannot look the ESXi host's name up.",
        retry: "manual",
    },
    vcenter_unavailable: {
        summary: "vCenter does not answer, so the console cannot be checked.",
        advice: "Try again in a moment. If it lasts, tell your administrator that vCenter is down.",
        retry: "auto",
    },
    too_many_attempts: {
        summary: "Too many console links that are not valid were opened from your network.",
        advice: null,
        retry: "auto",
    },
    permission_denied: {
        summary: "The console service is not allowed to open this console.",
        advice: null,
        retry: "manual",
    },
    console_limit: {
        summary: "The virtual machine has no room for another console.",
        advice: null,
        retry: "manual",
    },
    authority_unavailable: {
        summary: "The console service cannot answer now.",
        advice: "Try again in a moment. If it lasts, tell your administrator.",
        retry: "auto",
    },

    link_in_use: {
        summary: "This console link is in use in another browser.",
        advice: "Open the console again from where you got the link. If you opened this link nowhere else, tell your "
            + "administrator: somebody else may have it.",
        retry: "manual",
    },

    page_not_encrypted: {
        summary: "This console link needs an encrypted page.",
        advice: "Open the link with https:// in place of http://, or tell your administrator.",
        retry: "never",
    },
    no_token: {
        summary: "The address of this page has no console link in it.",
        advice: "Open the console from your portal, or copy the whole link, with all that follows the # sign.",
        retry: "never",
    },
    unreachable: {
        summary: "The console gateway cannot be reached.",
        advice: "Check your network connection or VPN, then reconnect.",
        retry: "auto",
    },
    unexpected_answer: {
        summary: "The console gateway gave an answer that this page does not understand.",
        advice: "Reload the page. If it happens again, tell your administrator.",
        retry: "manual",
    },
    no_answer: {
        summary: "The link is valid, but the console server did not answer.",
        advice: "Try again in a moment. If it lasts, tell your administrator: the ESXi host's console port may "
            + "be closed to the gateway, too many consoles are open from your network, or the gateway opens none "
            + "at this page's address.",
        retry: "auto",
    },
    origin: {
        summary: "The gateway sees this page at another address than your browser, and so takes it for a foreign "
            + "one.",
        advice: null,
        retry: "manual",
    },
    link_used_up: {
        summary: "The console has ended, and this link was good for one console.",
        advice: NEW_LINK,
        retry: "never",
    },
    protocol_error: {
        summary: "The console server sent something that is not VNC.",
        advice: "Reconnect once. If it happens again, tell your administrator.",
        retry: "manual",
    },
    server_refused: {
        summary: "The console server refused the session.",
        advice: "Try again in a moment. If it lasts, tell your administrator.",
        retry: "manual",
    },
    password_required: {
        summary: "The console server asks for a password that the gateway does not have.",
        advice: "Tell your administrator: the password in the machine's settings in vCenter may have changed.",
        retry: "manual",
    },
    console_closed: {
        summary: "The console server closed the console.",
        advice: "Reconnect to open it again.",
        retry: "auto",
    },
    connection_lost: {
        summary: "The connection to the console was lost.",
        advice: "Check your network connection, then reconnect.",
        retry: "auto",
    },
    page_failed: {
        summary: "This page has a fault.",
        advice: "Reload the page. If it happens again, use a newer browser or tell your administrator.",
        retry: "manual",
    },
    closed_by_user: {
        summary: "You have disconnected.",
        advice: "The virtual machine goes on running.",
        retry: "manual",
    },
};

/**
 * Why a connection ended or did not begin: a code, and the words of the server that ended it.
 *
 * @typedef {{code: string, detail: string}} End
 * @typedef {End & {summary: string, advice: string, retry: Explanation["retry"]}} Reason
 */

/**
 * @param {End} end
 * @returns {Reason} for a code that this page does not know, the words of the server
 */
export function reasonOf({ code, detail }) {
    /** @type {Explanation} */
    const known = Object.prototype.hasOwnProperty.call(REASONS, code) ? REASONS[code] : {
        summary: "The console cannot be opened.",
        advice: null,
        retry: "manual",
    };
    return { code, detail: known.advice ? detail : "", ...known, advice: known.advice ?? detail };
}
