// The dialog "Settings": a choice for each setting that the operator has not locked.

import { closeDialog, element, onClick, showDialog } from "./element.js";
import { LANGUAGES, say, spokenLanguage, translate } from "./language.js";
import { NAMES, SETTINGS } from "./settings.js";

/**
 * @typedef {import("./settings.js").Settings} Settings
 * @typedef {import("./settings.js").Name} Name
 */

/** @type {Record<string, string>} Locales of the layouts, by which the browser knows what to call them. */
const LAYOUT_LOCALES = {
    us: "en-US", uk: "en-GB", de: "de-DE", ch: "de-CH", fr: "fr-FR", be: "fr-BE", es: "es-ES", latam: "es-419",
    it: "it-IT", pt: "pt-PT", "pt-br": "pt-BR", pl: "pl-PL", "tr-q": "tr-TR", ru: "ru-RU", jp: "ja-JP", kr: "ko-KR",
};

/** @type {Record<string, string>} What the browser calls languages that differ in their script by. */
const SCRIPTS = { "zh-CN": "zh-Hans", "zh-TW": "zh-Hant" };

/**
 * @param {Settings} settings
 * @param {(name: Name, value: string) => boolean} isOffered whether a value can be chosen now
 * @param {(name: Name) => void} onChange
 */
export function wireSettingsDialog(settings, isOffered, onChange) {
    for (const name of NAMES) {
        const row = document.createElement("p");
        const label = document.createElement("label");
        const select = document.createElement("select");
        select.id = `setting-${name}`;
        label.htmlFor = select.id;
        label.dataset.text = `setting.${name}`;
        for (const value of SETTINGS[name].values) {
            select.add(new Option(value, value));
        }
        select.addEventListener("change", () => {
            settings.set(name, select.value);
            onChange(name);
        });
        row.append(label, select);
        element("settings-list").append(row);
    }
    translate(element("settings-list"));
    onClick("settings", () => {
        showSettings(settings, isOffered);
        showDialog("settings-dialog");
    });
    onClick("settings-close", () => closeDialog("settings-dialog"));
}

/**
 * Shows what is set, in the language of the person.
 *
 * @param {Settings} settings
 * @param {(name: Name, value: string) => boolean} isOffered
 */
export function showSettings(settings, isOffered) {
    for (const name of NAMES) {
        const select = element(`setting-${name}`, HTMLSelectElement);
        for (const option of select.options) {
            option.textContent = nameOf(name, option.value);
            option.disabled = !isOffered(name, option.value);
        }
        select.value = settings.get(name);
        select.disabled = settings.isLocked(name);
    }
}

/**
 * @param {Name} name
 * @param {string} value
 */
export function nameOf(name, value) {
    if (name === "layout") {
        return layoutName(value);
    }
    if (name === "language" && LANGUAGES.includes(value)) {
        return localeName(SCRIPTS[value] ?? value, value);
    }
    return name === "quality" || name === "compression" ? value : say(`value.${value}`);
}

/** @param {string} layout */
export function layoutName(layout) {
    return `${localeName(LAYOUT_LOCALES[layout], spokenLanguage())} (${layout})`;
}

/**
 * @param {string} locale
 * @param {string} language in which it is named
 */
function localeName(locale, language) {
    return new Intl.DisplayNames([language], { type: "language" }).of(locale) ?? locale;
}
