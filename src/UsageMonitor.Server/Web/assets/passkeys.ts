// Passkeys: the one thing on the pages that cannot be a plain form. The script asks the browser for a credential and puts it
// into a hidden field; the form itself carries it to the server.

type Json = Record<string, unknown>;
type Descriptor = { type: "public-key"; id: string; transports?: AuthenticatorTransport[] };

/** As the server writes options (WebAuthn level 3, 5.1.8 and 5.1.9): bytes are base64url. */
interface Options {
  challenge: string;
  user?: { id: string; name: string; displayName: string };
  allowCredentials?: Descriptor[];
  excludeCredentials?: Descriptor[];
}

function bytes(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

function text(buffer: ArrayBuffer): string {
  const binary = Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

const descriptors = (list: Descriptor[] | undefined): PublicKeyCredentialDescriptor[] =>
  (list ?? []).map((one) => ({ ...one, id: bytes(one.id) }));

function common(credential: PublicKeyCredential): Json {
  return {
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    authenticatorAttachment: credential.authenticatorAttachment,
    clientExtensionResults: credential.getClientExtensionResults(),
  };
}

async function create(options: Options): Promise<Json | null> {
  const made = await navigator.credentials.create({
    publicKey: {
      ...(options as unknown as PublicKeyCredentialCreationOptions),
      challenge: bytes(options.challenge),
      user: { ...options.user!, id: bytes(options.user!.id) },
      excludeCredentials: descriptors(options.excludeCredentials),
    },
  });
  if (!(made instanceof PublicKeyCredential)) {
    return null;
  }

  const response = made.response as AuthenticatorAttestationResponse;
  return {
    ...common(made),
    response: {
      clientDataJSON: text(response.clientDataJSON),
      attestationObject: text(response.attestationObject),
      transports: response.getTransports(),
    },
  };
}

async function get(options: Options): Promise<Json | null> {
  const found = await navigator.credentials.get({
    publicKey: {
      ...(options as unknown as PublicKeyCredentialRequestOptions),
      challenge: bytes(options.challenge),
      allowCredentials: descriptors(options.allowCredentials),
    },
  });
  if (!(found instanceof PublicKeyCredential)) {
    return null;
  }

  const response = found.response as AuthenticatorAssertionResponse;
  return {
    ...common(found),
    response: {
      clientDataJSON: text(response.clientDataJSON),
      authenticatorData: text(response.authenticatorData),
      signature: text(response.signature),
      userHandle: response.userHandle ? text(response.userHandle) : null,
    },
  };
}

/** The options in the form or from the server; null when the browser was sent to another page instead. */
async function optionsOf(form: HTMLFormElement): Promise<{ challenge: string; options: Options } | null> {
  const { options, optionsFrom, proof } = form.dataset;
  if (options) {
    return { challenge: "", options: JSON.parse(options) as Options };
  }

  const response = await fetch(optionsFrom ?? "", { method: "POST", headers: { accept: "application/json" } });
  const answer = (await response.json()) as Json;
  if (response.ok) {
    return answer as unknown as { challenge: string; options: Options };
  }

  if (answer["code"] === "proof_required" && proof) {
    location.assign(proof);
    return null;
  }

  throw new Error(String(answer["detail"] ?? "The server did not answer."));
}

function explain(error: unknown): string {
  switch (error instanceof DOMException ? error.name : "") {
    case "NotAllowedError":
      return "No passkey was used: it was cancelled, took too long, or there is none here.";
    case "InvalidStateError":
      return "This device has a passkey of yours already.";
    case "SecurityError":
      return "Passkeys do not work at this address.";
    default:
      return error instanceof Error ? error.message : String(error);
  }
}

function field(form: HTMLFormElement, name: string): HTMLInputElement | null {
  return form.querySelector<HTMLInputElement>(`input[name="${name}"]`);
}

for (const form of document.querySelectorAll<HTMLFormElement>("form[data-passkey]")) {
  // Browsers have it in secure contexts only: on https and on localhost.
  if (!("PublicKeyCredential" in window)) {
    continue;
  }

  const button = form.querySelector<HTMLButtonElement>("button");
  const error = form.querySelector<HTMLElement>("[data-passkey-error]");
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button?.disabled) {
      return;
    }

    error?.toggleAttribute("hidden", true);
    button?.toggleAttribute("disabled", true);
    try {
      const asked = await optionsOf(form);
      if (asked === null) {
        return;
      }

      const credential = await (form.dataset["passkey"] === "create" ? create(asked.options) : get(asked.options));
      const passkey = field(form, "passkey");
      const challenge = field(form, "challenge");
      if (credential === null || passkey === null) {
        throw new Error("The browser gave no passkey.");
      }

      passkey.value = JSON.stringify(credential);
      if (challenge) {
        challenge.value = asked.challenge;
      }

      form.submit();
    } catch (caught) {
      if (error) {
        error.textContent = explain(caught);
        error.hidden = false;
      }

      button?.toggleAttribute("disabled", false);
    }
  });
}
