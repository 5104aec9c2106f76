"""Saleor's orders and invoices, against the events that must come of them, written out by hand."""

from upstream_documents import adapted, sample


def test_saleor_order() -> None:
    (event,) = adapted("saleor", sample("saleor/orderConfirmedPayload.json"))
    assert event["id"] == "order/T3JkZXI6NTdiNTBhNDAtYzRmYi00YjQzLWIxODgtM2JhZmRlMTc3MGQ5"
    assert event["data"] == {
        "order_id": "T3JkZXI6NTdiNTBhNDAtYzRmYi00YjQzLWIxODgtM2JhZmRlMTc3MGQ5",
        "number": "1042",
        "currency": "USD",
        "total": "213",
        "processed_at": "2024-01-15T14:32:00Z",
        "customer": {
            "name": "Adrian King",
            "email": "adrian.king@example.com",
            "phone": "+1 212-555-0198",
            "locale": "en",
        },
        "lines": [
            {
                "sku": "OCT-NVY-L",
                "quantity": 2,
                "unit_price": "40",
                "title": "Organic Cotton T-Shirt (Navy / Large)",
            },
            {
                "sku": "MUG-ANNIVERSARY-GOLD",
                "quantity": 1,
                "unit_price": "25",
                "title": "Limited Edition Anniversary Collection Ceramic Mug with Gold Trim",
            },
            {
                "sku": "WEP-BLK-001",
                "quantity": 1,
                "unit_price": "96",
                "title": "Wireless Earbuds Pro (Matte Black)",
            },
        ],
    }


def test_saleor_invoice() -> None:
    headers = {"Saleor-Event": "invoice_sent", "Saleor-Domain": "shop.example.com"}
    (event,) = adapted("saleor", sample("saleor/invoiceSentPayload.json"), headers)
    assert event["id"] == "invoice/SW52b2ljZToxMDE="
    assert event["source"] == "urn:saleor:shop.example.com"
    assert event["data"] == {
        "invoice_id": "SW52b2ljZToxMDE=",
        "order_id": "T3JkZXI6NTdiNTBhNDAtYzRmYi00YjQzLWIxODgtM2JhZmRlMTc3MGQ5",
        "currency": "USD",
        "total": "213",
        "issued_at": "2024-01-15T14:32:00Z",
        "document": {"url": "https://example.com/media/invoices/invoice-2024-order-1042.pdf"},
    }
