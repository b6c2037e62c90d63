// Says why the page stays empty when its modules do not start: the browser is too old for them, or one of them
// did not arrive. A classic script in the JavaScript of 2009, so that it runs where they do not.

(function () {
    "use strict";

    /**
     * @param {string} id
     * @param {string} text
     */
    function write(id, text) {
        var element = document.getElementById(id);
        if (element) {
            element.textContent = text;
        }
    }

    /** @param {string} detail */
    function explain(detail) {
        var state = document.getElementById("state");
        var notice = document.getElementById("notice");
        var reconnect = document.getElementById("reconnect");
        if (!state || !notice || !reconnect || state.getAttribute("data-phase") !== "loading") {
            return;
        }
        document.body.setAttribute("data-reason", "page_not_started");
        state.setAttribute("data-phase", "ended");
        write("state", "Not connected");
        write("notice-heading", "The console cannot be opened");
        write("notice-summary", "The scripts of this page did not start.");
        write("notice-advice", "Reload the page. If that does not help, use a newer browser: Chrome or Edge 89, "
            + "Firefox 89, Safari 15, or later.");
        write("notice-code", "page_not_started: " + detail);
        reconnect.hidden = true;
        notice.hidden = false;
        translate();
    }

    // The same in the language of the browser, if its words arrive. language.js may not have.
    function translate() {
        var tag = navigator.language || "en";
        var chinese = /hant|tw|hk|mo/i.test(tag) ? "zh-TW" : "zh-CN";
        var language = /^zh/i.test(tag) ? chinese : tag.split("-")[0].toLowerCase();
        var request = new XMLHttpRequest();
        request.open("GET", "languages/" + language + ".json");
        request.onload = function () {
            if (request.status !== 200) {
                return;
            }
            var words = JSON.parse(request.responseText);
            document.documentElement.lang = language;
            write("state", words["phase.ended"]);
            write("notice-heading", words.notice_not_opened);
            write("notice-summary", words["reason.page_not_started"]);
            write("notice-advice", words["advice.page_not_started"]);
        };
        request.send();
    }

    // In the capture phase, since the event of a script that does not arrive does not bubble.
    addEventListener("error", function (event) {
        if (event.target === window) {
            explain(event.message);
        } else if (event.target instanceof HTMLScriptElement) {
            explain("a script did not arrive");
        }
    }, true);
    document.addEventListener("DOMContentLoaded", function () {
        if (!("noModule" in HTMLScriptElement.prototype)) {
            explain("this browser has no JavaScript modules");
        }
    });
})();
