// The console link: reads the fragment of the page's URL.

import { knownLanguage } from "./language.js";

// A token goes into an HTTP header and a WebSocket subprotocol, so it has to consist of RFC 9110 token
// characters. The authority issues UUIDs, which need no others than these.
const TOKEN = /^[\w-]{1,128}$/;

// A title that is longer is not a machine's name and UUID.
const TITLE_MAX = 128;

/**
 * Reads the link and takes the token out of the address bar.
 *
 * The token moves to `history.state` of this history entry: it survives a reload, and another console
 * opened in the same tab has an entry of its own. The browser has written the whole link into its history
 * before any script runs, and a script cannot take it out (README.md).
 *
 * @returns {{token: string | null, viewOnly: boolean, title: string, settings: Record<string, string>}} `token` is null
 *     when the link has none or one that cannot be a token; `title` is what a portal calls the machine, and is empty if
 *     the link has none; `settings` are for settings.js
 */
export function readLink() {
    const fragment = new URLSearchParams(location.hash.slice(1));
    if (fragment.has("token")) {
        const token = fragment.get("token");
        fragment.delete("token");
        const rest = fragment.toString();
        const path = location.pathname + location.search;
        history.replaceState({ token }, "", rest === "" ? path : `${path}#${rest}`);
    }
    const token = history.state?.token ?? "";
    const settings = Object.fromEntries(fragment);
    if (settings.language !== undefined && settings.language !== "auto") {
        // Portals have names of their own: Skyline's are `zh-hans` and `ko-kr`.
        const known = knownLanguage([settings.language]);
        if (known !== "en" || /^en\b/i.test(settings.language)) {
            settings.language = known;
        }
    }
    return {
        token: TOKEN.test(token) ? token : null,
        viewOnly: fragment.get("view_only") === "true",
        title: (fragment.get("title") ?? "").slice(0, TITLE_MAX),
        settings,
    };
}
