// Every reason why there is no console, as a person at the browser needs it.
//
// A browser is told nothing about a refused WebSocket upgrade but the close code 1006, so the page asks
// the authority (status.js). The codes of the first group are the authority's; the rest are the page's own.

const NEW_LINK = "Open the console again from where you got the link: that makes a new one.";

/**
 * code → what happened, what to do next, and whether trying again by itself can help.
 *
 * @type {Record<string, {summary: string, advice: string, retry: boolean}>}
 */
const REASONS = {
    token_invalid: {
        summary: "This console link is no longer valid: it has expired, was used up or was withdrawn.",
        advice: NEW_LINK,
        retry: false,
    },
    console_moved: {
        summary: "The virtual machine has moved, so this link no longer leads to its console.",
        advice: NEW_LINK,
        retry: false,
    },
    console_unavailable: {
        summary: "The virtual machine has no console now: it is powered off, disconnected or gone.",
        advice: "Power it on, then reconnect. If it is running, its console is switched off in vCenter.",
        retry: true,
    },
    vcenter_unavailable: {
        summary: "vCenter does not answer, so the console cannot be checked.",
        advice: "Try again in a moment. If it lasts, tell your administrator that vCenter is down.",
        retry: true,
    },
    authority_unavailable: {
        summary: "The console service cannot answer now.",
        advice: "Try again in a moment. If it lasts, tell your administrator.",
        retry: true,
    },

    no_token: {
        summary: "The address of this page has no console link in it.",
        advice: "Open the console from your portal, or copy the whole link, with all that follows the # sign.",
        retry: false,
    },
    unreachable: {
        summary: "The console gateway cannot be reached.",
        advice: "Check your network connection or VPN, then reconnect.",
        retry: true,
    },
    unexpected_answer: {
        summary: "The console gateway gave an answer that this page does not understand.",
        advice: "Reload the page. If it happens again, tell your administrator.",
        retry: false,
    },
    no_answer: {
        summary: "The link is valid, but the console server did not answer.",
        advice: "Try again in a moment. If it lasts, the ESXi host's console port may be closed to the "
            + "gateway: tell your administrator.",
        retry: true,
    },
    protocol_error: {
        summary: "The console server sent something that is not VNC.",
        advice: "Reconnect once. If it happens again, tell your administrator.",
        retry: false,
    },
    password_refused: {
        summary: "The console server refused the password.",
        advice: "Reconnect and type the virtual machine's VNC password again.",
        retry: false,
    },
    password_withheld: {
        summary: "This console needs the virtual machine's VNC password.",
        advice: "Reconnect when you have it.",
        retry: false,
    },
    console_closed: {
        summary: "The console server closed the console.",
        advice: "Reconnect to open it again.",
        retry: true,
    },
    connection_lost: {
        summary: "The connection to the console was lost.",
        advice: "Check your network connection, then reconnect.",
        retry: true,
    },
    closed_by_user: {
        summary: "You have disconnected.",
        advice: "The virtual machine goes on running.",
        retry: false,
    },
};

/**
 * @param {{code: string, detail: string}} end
 * @returns {{code: string, detail: string, summary: string, advice: string, retry: boolean}} for a code
 *     that this page does not know, the words of the server and no automatic attempt
 */
export function reasonOf({ code, detail }) {
    const known = Object.hasOwn(REASONS, code) ? REASONS[code] : {
        summary: detail || "The console cannot be opened.",
        advice: "Reconnect. If it happens again, tell your administrator the code below.",
        retry: false,
    };
    return { code, detail, ...known };
}
